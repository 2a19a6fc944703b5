"""Case and marks of an evaluation's texts: `python -m recipes.tiny.marks runs/eval/tiny-voices`.

The share of texts that end in the right mark, and of names (words with a capital inside a sentence)
that were written and have their capital.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from tiny_audio.evaluate.metrics import align
from tiny_audio.evaluate.predictions import read_predictions

MARKS = ".?!"


def plain(word: str) -> str:
    return word.strip(",.?!;:'").lower()


def names(text: str) -> set[int]:
    """Return numbers of words with a capital that begin no sentence; "I" does not count."""
    words = text.split()
    inside = [n for n in range(1, len(words)) if words[n - 1][-1] not in MARKS]
    return {n for n in inside if words[n][0].isupper() and not words[n].startswith(("I'", "I"))}


def capitals(ref: str, hyp: str) -> tuple[int, int]:
    """Count names that were written as the same word, and those of them with a capital."""
    spoken, written = ref.split(), hyp.split()
    wanted, at_ref, at_hyp = names(ref), 0, 0
    num_written = num_capital = 0
    for edit in align([plain(w) for w in spoken], [plain(w) for w in written]):
        if edit.kind == "equal" and at_ref in wanted:
            num_written += 1
            num_capital += written[at_hyp][0].isupper()
        at_ref += edit.kind != "insert"
        at_hyp += edit.kind != "delete"
    return num_written, num_capital


class Counts(NamedTuple):
    """Texts that end in the right mark, all texts, names with their capital, names written."""

    right: int
    texts: int
    capital: int
    written: int


def counts(folder: Path) -> Counts:
    rows = read_predictions(folder / "predictions.jsonl", None)
    pairs = [(row.ref, row.hyp or "") for row in rows]
    right = sum(bool(hyp) and hyp[-1] == ref[-1] for ref, hyp in pairs)
    written, capital = map(sum, zip(*(capitals(*pair) for pair in pairs), strict=True))
    return Counts(right, len(pairs), capital, written)


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        right, texts, capital, written = counts(folder)
        print(f"{folder}: {right} of {texts} texts end in the right mark", end="; ")
        print(f"{capital} of {written} names that were written have their capital")


if __name__ == "__main__":
    main()
