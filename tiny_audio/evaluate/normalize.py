"""Normalisers decide which differences between two texts do not count; each has its version.

    none               nothing but white space
    plain              words without case and punctuation (`data.text.clean`, as runs are watched)
    whisper-en         OpenAI's for English: also numbers as digits, contractions, British spelling,
                       and "um" and everything in brackets removed; a typographic apostrophe is
                       one (OpenAI's parts "don’t" into two words)
    whisper-en-1       the same as OpenAI's own, which figures before version "apostrophes" used
    whisper-basic      OpenAI's for other languages. It drops combining marks: words of Hindi or
                       Thai fall apart; it is here because published figures use it
    basic-keep-marks   the same, marks kept
    cjk-char           plain, and a space around every Chinese or Japanese character: words are not
                       written there, so the word error rate becomes one of characters

A score means nothing without its normaliser, so results of different ones refuse to be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from tiny_audio.data.text import APOSTROPHES, clean
from tiny_audio.model.errors import ConfigError, needing

DEFAULT = "whisper-en"
Rewrite = Callable[[str], str]


@dataclass(frozen=True)
class Normalizer:
    """A pure function on texts. `version` changes whenever it may give another text."""

    id: str
    version: str
    rewrite: Rewrite

    def __call__(self, text: str) -> str:
        """Return the text as it is compared: words with one space between them."""
        return " ".join(self.rewrite(text).split())

    def all(self, texts: Iterable[str]) -> dict[str, str]:
        """Return every text with its normal form; a text that comes again costs nothing."""
        return {text: self(text) for text in set(texts)}

    def to_dict(self) -> dict[str, str]:
        """Return the normaliser as it stands in a result file."""
        return {"id": self.id, "version": self.version}


def normalizer(name: str = DEFAULT) -> Normalizer:
    """Return the normaliser of this id; an unknown one is a `ConfigError` that says the nearest."""
    if name not in NORMALIZERS:
        raise ConfigError.unknown(name, NORMALIZERS, "The table of normalisers")
    made, made_version = NORMALIZERS[name]()
    return Normalizer(name, made_version, made)


def check_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Refuse two results (each with its `normalizer`) whose texts were not treated alike."""
    ours, theirs = (dict(one["normalizer"]) for one in (a, b))
    if ours != theirs:
        named = [f"{one['id']} (version {one['version']})" for one in (ours, theirs)]
        raise ConfigError(
            f"One result is scored with the normaliser {named[0]}, the other with {named[1]}: they "
            "cannot be compared. Score both anew: tiny-audio score PREDICTIONS --normalizer ID."
        )


def _none() -> tuple[Rewrite, str]:
    return str, "1"


def _plain() -> tuple[Rewrite, str]:
    return partial(clean, style="plain"), "1"


# Kana and ideographs with their extensions and compatibility forms.
UNSPACED = re.compile(
    "([\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f])"
)


def _cjk_char() -> tuple[Rewrite, str]:
    return lambda text: UNSPACED.sub(r" \1 ", clean(text, "plain")), "1"


def _whisper_en() -> tuple[Rewrite, str]:
    rewrite, made_version = _whisper_en_1()
    return lambda text: rewrite(text.translate(APOSTROPHES)), f"{made_version}, apostrophes"


def _whisper_en_1() -> tuple[Rewrite, str]:
    with needing("The normaliser whisper-en", "eval"):
        from whisper_normalizer.english import EnglishTextNormalizer
    whole, short = EnglishTextNormalizer(), EnglishTextNormalizer()
    words = {re.fullmatch(r"\\b(\w+)\\b", one) for one in whole.replacers}
    replaced = {found[1] for found in words if found}
    short.replacers = {}

    def rewrite(text: str) -> str:
        """Rewrite a text. Most hold nothing of its 60 contractions and abbreviations, which are
        tried one by one: without them it takes half the time. All others hold an apostrophe.
        """
        plain = not JOINING.search(text) and replaced.isdisjoint(WORD.findall(text.lower()))
        return (short if plain else whole)(text)

    return rewrite, _whisper_version()


WORD = re.compile(r"\w+")
JOINING = re.compile(r"['<\[(]")  # contractions, and brackets whose removal might make one


def _whisper_basic(keep_marks: bool) -> tuple[Rewrite, str]:
    with needing("The normaliser whisper-basic", "eval"):
        from whisper_normalizer.basic import BasicTextNormalizer
    return BasicTextNormalizer(preserve_marks=keep_marks), _whisper_version()


def _whisper_version() -> str:
    return f"whisper-normalizer {version('whisper-normalizer')}"


NORMALIZERS: dict[str, Callable[[], tuple[Rewrite, str]]] = {
    "none": _none,
    "plain": _plain,
    "whisper-en": _whisper_en,
    "whisper-en-1": _whisper_en_1,
    "whisper-basic": partial(_whisper_basic, keep_marks=False),
    "basic-keep-marks": partial(_whisper_basic, keep_marks=True),
    "cjk-char": _cjk_char,
}
