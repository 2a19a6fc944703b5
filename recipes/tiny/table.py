"""The table of `tiny`'s figures, from the results in benchmarks/tiny, written into every page that
shows it: `uv run python -m recipes.tiny.table`. A test fails where a page says something else.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from recipes.tiny.marks import counts
from tiny_audio.evaluate.compare import compare
from tiny_audio.evaluate.saved import Saved, common_normalizer

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "tiny"
PAGES = ("README.md", "tiny_audio/presets/tiny/README.md", "benchmarks/tiny/README.md")
BEGIN, END = "<!-- recipes.tiny.table -->", "<!-- end -->"


class Column(NamedTuple):
    """A set of clips: its heading, the end of its folders' names, and its name in a sentence."""

    heading: str
    name: str
    short: str


COLUMNS = (
    Column("a native speaker's telephone prompts", "native", "the native speaker's prompts"),
    Column("25 unheard readers of speechocean762", "readers", "the readers"),
    Column("the same clips in windows of half a minute", "long", "the windows of half a minute"),
    Column("flite's `rms`, unread sentences", "voices", "`rms`"),
)
ROWS = {
    "tiny": "**`tiny`, as it ships**",
    "int8": "– its decoder in eight bits (`--dtype int8`)",
    "beams": "– four beams, no CTC head",
    "greedy": "– greedily",
    "frozen": "– greedily, without its adapters: SmolLM2 as it is, which answers instead",
    "tokens": "– its token head alone: the encoder and the projector, no language model",
    "ctc": "– its character head alone, no language model",
    "whisper": "Whisper tiny.en, its own decoder",
    "whisper-beams": "– the same with five beams",
}


def result(system: str, column: str) -> dict[str, Any] | None:
    path = RESULTS / f"{system}-{column}" / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def cell(found: dict[str, Any] | None) -> str:
    """Return the WER with its interval, or say that the set was not measured."""
    if found is None:
        return "not measured"
    wer = found["scores"]["wer"]
    return f"{wer['rate']:.1%} ({100 * wer['low']:.1f} to {100 * wer['high']:.1f})".replace(
        "%", " %"
    )


def size(column: Column) -> str:
    found = next((r for r in (result(system, column.name) for system in ROWS) if r), None)
    if found is None:
        return column.heading
    scores = found["scores"]
    return f"{column.heading} ({scores['clips']} clips, {scores['wer']['length']:,} words)"


def table() -> str:
    """Return the Markdown table; a system that was measured on no set has no row."""
    head = ["WER (normaliser whisper-en)", *map(size, COLUMNS)]
    rows = [
        [name, *(cell(result(system, column.name)) for column in COLUMNS)]
        for system, name in ROWS.items()
        if any(result(system, column.name) for column in COLUMNS)
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sentences() -> str:
    """Return what the results say beside the table: differences to Whisper, marks and names."""
    lines = [against_whisper(column) for column in COLUMNS if compared("whisper", column)]
    lines.append(against_its_head())
    right, texts, capital, written = counts(RESULTS / "tiny-voices")
    lines.append(
        f"Of the {texts} unread sentences {right} end in the right mark ({right / texts:.0%}); of "
        f"{written} names that were written, {capital} have their capital."
    )
    return "\n".join(lines).replace("%", " %").replace(" -", " −").replace("(-", "(−")


def compared(system: str, column: Column) -> bool:
    """Tell whether both `tiny` and the other system were measured on this set."""
    return bool(result("tiny", column.name) and result(system, column.name))


def difference(system: str, column: Column) -> tuple[float, float, float]:
    """Return the points by which `tiny`'s WER is above the other's on the same clips, and its
    interval.
    """
    ours, theirs = (Saved.read(RESULTS / f"{name}-{column.name}") for name in ("tiny", system))
    normal = common_normalizer([ours, theirs], None)
    found = compare(ours.table(normal), theirs.table(normal), normal)["overall"]["difference"]
    return 100 * found["rate"], 100 * found["low"], 100 * found["high"]


def against_whisper(column: Column) -> str:
    """Say how `tiny` differs from Whisper's own decoder on the same clips, with an interval."""
    rate, low, high = difference("whisper", column)
    return (
        f"On {column.short} `tiny` makes {abs(rate):.1f} points {'fewer' if rate < 0 else 'more'} "
        f"errors than Whisper tiny.en's own decoder ({low:+.1f} to {high:+.1f})."
    )


def against_its_head() -> str:
    """Say how the language model changes the WER of the token head, with intervals."""
    found = [(c.short, difference("tokens", c)) for c in COLUMNS if compared("tokens", c)]
    points = (
        f"{rate:+.1f} points on {name} ({low:+.1f} to {high:+.1f})"
        for name, (rate, low, high) in found
    )
    return f"The language model changes the WER of the token head alone by {', '.join(points)}."


def page_with_table(text: str) -> str:
    """Return the page with a new text between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n\n{sentences()}\n{END}{after}"


def main() -> None:
    for page in PAGES:
        path = ROOT / page
        path.write_text(page_with_table(path.read_text()))
        print(f"{page}: written")


if __name__ == "__main__":
    main()
