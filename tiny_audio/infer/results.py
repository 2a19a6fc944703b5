"""What comes out: one result type for the command line, Python and everything that serves."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

# What became of one window. Only "ok" and "no_speech" are whole answers.
Outcome = Literal["ok", "no_speech", "cut_off", "loop"]


@dataclass(frozen=True)
class Word:
    """One word; times are None where no aligner found it, never invented."""

    text: str
    start_s: float | None
    end_s: float | None
    confidence: float | None  # geometric mean of its tokens' probabilities, 0…1


@dataclass(frozen=True)
class Segment:
    """The text of one window of the audio, `start_s` to `end_s`, and how it ended."""

    start_s: float
    end_s: float
    text: str
    outcome: Outcome
    mean_logprob: float | None  # natural logarithm per token; None where nothing was written
    words: tuple[Word, ...] = ()  # empty unless words were asked for

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the token probabilities, 0…1 (not calibrated)."""
        return None if self.mean_logprob is None else math.exp(self.mean_logprob)


@dataclass(frozen=True)
class Transcript:
    """The text of one source. Segments cover it from 0 to `duration_s` without a gap."""

    source: str
    duration_s: float
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()  # what decoding the file lost or changed

    @property
    def text(self) -> str:
        """The texts of all segments; empty for "no_speech" and where nothing but blanks came."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def outcome(self) -> Outcome:
        """The worst that happened in any segment; "no_speech" if none of them holds a word."""
        happened = {segment.outcome for segment in self.segments}
        for bad in ("loop", "cut_off"):
            if bad in happened:
                return bad
        return "ok" if self.text else "no_speech"

    @property
    def complete(self) -> bool:
        """Whether the decoder finished every segment by itself."""
        return self.outcome in ("ok", "no_speech")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "text": self.text,
            "duration_s": round(self.duration_s, 3),
            "outcome": self.outcome,
            "complete": self.complete,
            "notes": list(self.notes),
            "segments": [asdict(segment) for segment in self.segments],
        }
