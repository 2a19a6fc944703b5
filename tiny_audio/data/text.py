"""Cleaning labels, by one function for training and for scoring.

Only what stands for no sound is removed: control characters, markup of white space, other ways to
write the same character. Case and punctuation are a choice of style. Numbers and symbols are not
spelled out.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

Style = Literal["raw", "lower", "plain"]

JOINERS = "\u200c\u200d"  # invisible, but a matter of spelling within Persian and Indic words
APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼ`", "'"))


def clean(text: str, style: Style = "raw") -> str:
    """Clean a text: `raw` keeps case and punctuation, `lower` only punctuation, `plain` neither.

    Cleaning twice changes nothing. What holds nothing but control characters becomes "".
    """
    if style == "plain":
        text = text.replace("´", "'")  # of which NFKC would make a space
    text = unicodedata.normalize("NFKC", "".join(_printed(c) for c in text))
    if style != "raw":
        text = unicodedata.normalize("NFKC", text.lower())
    edges = JOINERS
    if style == "plain":
        text, edges = _words(text.translate(APOSTROPHES)), JOINERS + "'"
    return " ".join(filter(None, (word.strip(edges) for word in text.split())))


def _printed(character: str) -> str:
    """Return a space for white space and control characters, and nothing for invisible marks."""
    category = unicodedata.category(character)
    if category[0] == "Z" or category == "Cc":
        return " "
    return "" if category[0] == "C" and character not in JOINERS else character


def _words(text: str) -> str:
    """Keep letters with their marks, digits, apostrophes and joiners; replace all else by a space.

    The marks matter: without them words of Hindi, Thai or Arabic fall apart.
    """
    kept = [" "]
    for character in text:
        category = unicodedata.category(character)[0]
        mark = category == "M" and kept[-1] not in (" ", "'")
        word = category in "LN" or mark or character in JOINERS + "'"
        kept.append(character if word else " ")
    return "".join(kept)
