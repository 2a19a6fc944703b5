"""Predictions as JSON Lines: what was said, what was answered, and how the answer ended.

A clip that could not be answered has no hypothesis: it is a failure, never an empty text with a
score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# How an answer ended. "ok" and "no_speech" are whole; "error" has no hypothesis.
Outcome = Literal["ok", "no_speech", "cut_off", "loop", "error"]


@dataclass(frozen=True)
class Prediction:
    """One clip. `id` names it in its dataset (`train.jsonl:17`) and is there once in a file."""

    id: str
    ref: str
    hyp: str | None  # as the system wrote it, not normalised; None: it failed
    outcome: Outcome
    duration_s: float
    seconds: float  # wall time of its share of a batch
    error: str = ""
    audio: str = ""  # path of the file, where there is one
    prompt: str = ""  # what was asked, where it was not the model's own instruction
    confidence: float | None = None
    columns: dict[str, Any] = field(default_factory=dict)  # speaker, gender, age, noise, …
