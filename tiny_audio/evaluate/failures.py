"""Counting what a word error rate does not show: answers that are no transcripts at all.

errors              no answer: the clip could not be read, or the system failed on it
empty               nothing was written although something was said
cut_off             the decoder reached its limit before it stopped
loop                the decoder went round, or a phrase stands there five times in a row
refusal             the language model talks about itself instead of writing down
nonspeech_answered  words were written although nothing was said
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tiny_audio.evaluate.metrics import Utterance
from tiny_audio.evaluate.predictions import UNKNOWN_S

NUM_REPEATS = 5
# A phrase of one to twelve words, NUM_REPEATS times and more.
REPEATED = re.compile(rf"(?:^|\s)(\S+(?: \S+){{0,11}}?)(?: \1){{{NUM_REPEATS - 1},}}(?!\S)")
REFUSALS = re.compile(
    r"\b(?:as an? (?:ai|artificial|language model|assistant)"
    r"|i(?:'?m| am) (?:just |only )?an? (?:ai|artificial intelligence|language model)"
    r"|i(?:'?m| am) (?:sorry|afraid),?(?: but)? i (?:can(?:no|')?t|am not able|am unable)"
    r"|i (?:cannot|can'?t|can not|am unable to|am not able to) "
    r"(?:hear|listen|transcribe|process|access|assist|help)"
    r"|(?:please )?(?:provide|upload|share) (?:me )?(?:with )?(?:the |an? |your )?audio)\b"
)


def is_loop(utterance: Utterance) -> bool:
    """Tell whether an answer loops: the decoder says so, or a phrase repeats only here."""
    if utterance.prediction.outcome == "loop":
        return True
    return bool(REPEATED.search(utterance.hyp or "") and not REPEATED.search(utterance.ref))


def is_refusal(utterance: Utterance) -> bool:
    """Tell whether the answer holds a phrase of refusal that was not said. It is looked for in the
    raw text, because normalisers rewrite contractions.
    """
    prediction = utterance.prediction
    reference, written = (_typed(text or "") for text in (prediction.ref, prediction.hyp))
    return bool(REFUSALS.search(written) and not REFUSALS.search(reference))


def _typed(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())


def failures_of(utterance: Utterance) -> list[str]:
    """Return the names of all counters that this clip raises."""
    if utterance.hyp is None:
        return ["errors"]
    raised = {
        "empty": bool(utterance.ref) and not utterance.hyp,
        "cut_off": utterance.prediction.outcome == "cut_off",
        "loop": is_loop(utterance),
        "refusal": is_refusal(utterance),
        "nonspeech_answered": not utterance.ref and bool(utterance.hyp),
    }
    return [name for name, is_so in raised.items() if is_so]


# What people read in place of a counter's name.
COUNTERS = {
    "errors": "clips that failed",
    "empty": "empty answers",
    "cut_off": "answers cut off at the limit",
    "loop": "answers that repeat themselves",
    "refusal": "refusals",
    "nonspeech_answered": "texts where nobody speaks",
}


def counters(table: Sequence[Utterance]) -> dict[str, Any]:
    """Count how many clips raise each counter, and how much was invented without speech."""
    raised = [name for one in table for name in failures_of(one)]
    quiet = [one for one in table if not one.ref]
    lengths = [one.prediction.duration_s for one in quiet]
    minutes = 0.0 if UNKNOWN_S in lengths else sum(lengths) / 60
    invented = sum(one.words.insertions for one in quiet)
    return {
        **{name: raised.count(name) for name in COUNTERS},
        "nonspeech_clips": len(quiet),
        "nonspeech_words_per_minute": round(invented / minutes, 3) if minutes else None,
    }
