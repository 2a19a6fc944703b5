"""What can be evaluated: our models, other models, servers, a CTC head. All answer clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from tiny_audio.evaluate.predictions import Outcome


class Answer(NamedTuple):
    """What a system made of one clip; `text` is None where it failed, and `error` says why."""

    text: str | None
    outcome: Outcome
    error: str = ""
    confidence: float | None = None


class System(Protocol):
    """Anything that answers clips."""

    def about(self) -> dict[str, Any]:
        """What a result file says of it: name, and what makes it this one (hashes, versions)."""

    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        """One answer for each clip (samples_N at 16 kHz); `asked` is "" for its own instruction."""
