"""Strict parsers: they return the one class or option that an answer commits to, or None.

None is "unparsed": it counts as wrong, and is counted. Words are compared whole ("male" is not in
"female"), the longest name first ("light rain" before "rain"); an answer that names several
classes, or denies one, commits to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tiny_audio.data.text import clean
from tiny_audio.model.errors import ConfigError

Classes = Mapping[str, Sequence[str]]  # class → other ways to say it
NEGATIONS = frozenset(
    "no not non none never neither nor without hardly barely cannot unlike except isn't aren't "
    "wasn't weren't doesn't don't didn't can't couldn't wouldn't ain't".split()
)
LETTERS = "ABCDEFGH"  # of the options of a multiple choice
CLAUSES = re.compile(r"[.,;:!?\n]+|\b(?:but|while|though|although)\b", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Return lower-case words without punctuation; `_` and `-` part them."""
    return clean(text.replace("_", " "), "plain").split()


def named(answer: Sequence[str], classes: Classes) -> tuple[set[str], list[str]]:
    """Return the classes that stand among words, and the other words."""
    phrases = [(words(way), name) for name, ways in classes.items() for way in (name, *ways)]
    phrases.sort(key=lambda pair: -len(pair[0]))
    found, left = set[str](), list(answer)
    for phrase, name in phrases:
        for start in _places(left, phrase):
            found.add(name)
            left[start : start + len(phrase)] = [""] * len(phrase)  # taken: no shorter name's
    return found, [word for word in left if word]


def _places(answer: Sequence[str], phrase: Sequence[str]) -> Iterator[int]:
    for start in range(len(answer) - len(phrase) + 1):
        if list(answer[start : start + len(phrase)]) == list(phrase):
            yield start


def parse_class(answer: str, classes: Classes) -> str | None:
    """Return the one class that the answer names; None for none, several, or any denial."""
    found, left = named(words(answer), classes)
    if len(found) != 1 or NEGATIONS.intersection(left):
        return None
    return found.pop()


def parse_slot(caption: str, classes: Classes) -> str | None:
    """Do as `parse_class`, in running text: a denial elsewhere in the caption does no harm."""
    found, denied = set[str](), set[str]()
    for clause in CLAUSES.split(caption):
        there, left = named(words(clause), classes)
        found |= there
        denied |= there if NEGATIONS.intersection(left) else set()
    return found.pop() if len(found) == 1 and not denied else None


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """Return the letter that the answer commits to, by letter, by the option's words, or both.

    The words are looked for first: with "C major" among the options, its C is no letter. The
    article in "A dog barks" is none either.
    """
    letters = LETTERS[: len(options)]
    if alone := re.fullmatch(rf"\W*([{letters}])\W*", answer, re.IGNORECASE):
        return alone[1].upper()
    rest, found = answer, set[str]()
    for letter, option in sorted(_labelled(options), key=lambda pair: -len(pair[1])):
        pattern = r"(?<!\w)" + r"[\W_]+".join(map(re.escape, words(option))) + r"(?!\w)"
        rest, count = re.subn(pattern, " ", rest, flags=re.IGNORECASE)
        found |= {letter} if count else set()
    found |= _letters(rest, letters)
    return found.pop() if len(found) == 1 and not NEGATIONS.intersection(words(rest)) else None


def _labelled(options: Sequence[str]) -> list[tuple[str, str]]:
    if not 2 <= len(options) <= len(LETTERS) or any(not words(option) for option in options):
        raise ConfigError(
            f"A multiple choice has 2 to {len(LETTERS)} options with words; given: {options!r}."
        )
    return list(zip(LETTERS, options, strict=False))


def _letters(text: str, letters: str) -> set[str]:
    """Return capitals that stand alone (an A before a word is an article) and marked letters."""
    marked = rf"\(\s*([{letters}])\s*\)|\b(?:answer|option|choice)(?:\s+is)?\W*([{letters}])\b|"
    marked += rf"^\W*([{letters}])[).:]"
    found = {g.upper() for m in re.finditer(marked, text, re.IGNORECASE) for g in m.groups() if g}
    for match in re.finditer(rf"\b[{letters}]\b", text):
        article = match[0] == "A" and re.match(r"\s+(?!and\b|or\b)[a-z]", text[match.end() :])
        found |= set() if article else {match[0]}
    return found
