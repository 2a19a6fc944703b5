"""Scoring what is no transcription: classes, multiple choice, captions.

An answer that cannot be read, and a clip that failed, count as wrong and are counted; nothing is
guessed for them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tiny_audio.data.text import clean
from tiny_audio.evaluate.parsers import parse_slot
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.tasks import Task, expected, read
from tiny_audio.model.errors import ConfigError, needing

with needing("Scoring captions", "eval"):
    from rapidfuzz import fuzz

UNPARSED = "unparsed"
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Understanding:
    """The score of a task. `accuracy` is over all clips (captions: over all expected slots)."""

    accuracy: float
    interval: tuple[float, float]  # Wilson's, 95 %
    macro_f1: float
    num_clips: int
    num_scored: int  # answers that could be right: clips, or slots of captions
    num_unparsed: int  # wrong, too: nothing, several or a denied class; failed clips are here
    num_failed: int
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)  # expected → answered → n
    similarity: float | None = None  # of captions: mean, 0…1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Pair = tuple[str, str | None]  # expected, answered


def score(task: Task, predictions: Sequence[Prediction]) -> Understanding:
    """Score answers to a task other than transcription."""
    if not predictions:
        raise ConfigError("There are no predictions to score.")
    check_references(task, [(one.ref, one.columns) for one in predictions])
    if task.kind == "caption":
        return _captions(task, predictions)
    pairs: list[Pair] = [
        (expected(task, p.ref, p.columns), read(task, p.hyp, p.columns)) for p in predictions
    ]
    return summary(pairs, len(predictions), _failed(predictions))


def check_references(task: Task, references: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Refuse references, each with its columns, to which no answer can be compared."""
    if task.kind == "transcription":
        raise ConfigError(
            "A transcription is scored by words and not by classes; type tiny-audio score."
        )
    if task.kind != "caption":
        for ref, columns in references:
            expected(task, ref, columns)
    elif not [slot for _, columns in references for slot in slots_in(task, columns)]:
        raise ConfigError("No clip has the column slots, which lists what a caption has to name.")


def summary(
    pairs: Sequence[Pair], num_clips: int, num_failed: int, similarity: float | None = None
) -> Understanding:
    """Return accuracy, macro-F1 and confusion of (expected, answered) pairs."""
    confusion: dict[str, Counter[str]] = {}
    for right, answered in pairs:
        confusion.setdefault(right, Counter())[answered or UNPARSED] += 1
    num_right = sum(right == answered for right, answered in pairs)
    return Understanding(
        accuracy=num_right / len(pairs),
        interval=wilson(num_right, len(pairs)),
        macro_f1=macro_f1(pairs),
        num_clips=num_clips,
        num_scored=len(pairs),
        num_unparsed=sum(answered is None for _, answered in pairs),
        num_failed=num_failed,
        confusion={right: dict(row) for right, row in sorted(confusion.items())},
        similarity=similarity,
    )


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, which has a width at 0 and 1 too."""
    share, z2 = num_right / num, Z_95**2
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z_95 / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def macro_f1(pairs: Sequence[Pair]) -> float:
    """Return the mean F1 of the references' classes; an unparsed answer is a miss."""
    scores = []
    for name in sorted({right for right, _ in pairs}):
        hits = sum(right == answered == name for right, answered in pairs)
        predicted = sum(answered == name for _, answered in pairs)
        there = sum(right == name for right, _ in pairs)
        scores.append(2 * hits / (predicted + there))
    return sum(scores) / len(scores)


def _failed(predictions: Sequence[Prediction]) -> int:
    return sum(p.hyp is None for p in predictions)


def _captions(task: Task, predictions: Sequence[Prediction]) -> Understanding:
    """Score captions: every expected slot of every clip is one thing to name."""
    pairs: list[Pair] = []
    for prediction in predictions:
        for slot, value in slots_in(task, prediction.columns).items():
            named = parse_slot(prediction.hyp or "", task.slots[slot])
            pairs.append((f"{slot}={value}", None if named is None else f"{slot}={named}"))
    alike = [similarity(p.ref, p.hyp or "") for p in predictions]
    return summary(pairs, len(predictions), _failed(predictions), sum(alike) / len(alike))


def slots_in(task: Task, columns: dict[str, Any]) -> dict[str, str]:
    """Return the column `slots` of a caption: what it has to name, checked against the task's."""
    found = columns.get("slots") or {}
    if not isinstance(found, dict):
        raise ConfigError(f"The column slots is {found!r}, expected an object: slot and value.")
    for slot, value in found.items():
        if slot not in task.slots:
            raise ConfigError.unknown(slot, task.slots, "The task")
        if str(value) not in task.slots[slot]:
            raise ConfigError.unknown(str(value), task.slots[slot], f"The slot {slot!r}")
    return found


def similarity(ref: str, hyp: str) -> float:
    """Return rapidfuzz's ratio of the sorted words, 0…1: their order does not matter, and words too
    many lower it.
    """
    return fuzz.token_sort_ratio(clean(ref, "plain"), clean(hyp, "plain")) / 100
