"""The one result type for the command line, Python and everything that serves."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tiny_audio.model.source import Note

COVERAGE_S = 1e-3  # ends of segments are samples divided by a rate: their sum may differ by this

# What became of one window. Only "ok" and "no_speech" are whole answers.
Outcome = Literal["ok", "no_speech", "cut_off", "loop"]


@dataclass(frozen=True)
class Word:
    """One word; times are None where no aligner found it, never invented."""

    text: str
    start_s: float | None
    end_s: float | None
    confidence: float | None  # geometric mean of its tokens' probabilities, 0…1
    speaker: str | None = None  # A, B … where it was asked who spoke


@dataclass(frozen=True)
class Segment:
    """The text of one window of the audio, `start_s` to `end_s`, and how it ended."""

    start_s: float
    end_s: float
    text: str
    outcome: Outcome
    mean_logprob: float | None  # natural logarithm per token; None where nothing was written
    words: tuple[Word, ...] = ()  # the text's, with their confidence; times only if asked for
    withheld: str = ""  # what was written and left out: its mean log-probability is below the limit

    @property
    def confidence(self) -> float | None:
        """Return the geometric mean of the token probabilities, 0…1 (not calibrated)."""
        return None if self.mean_logprob is None else math.exp(self.mean_logprob)


def withheld_note(segments: Sequence[Segment], cure: str = "") -> list[str]:
    """Return a note about texts that were left out, and how to keep them, or none."""
    found = [segment for segment in segments if segment.withheld]
    if not found:
        return []
    quoted = [f'"{s.withheld}" ({s.start_s:.1f} to {s.end_s:.1f} s)' for s in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    note = f"Left out as no speech, because the model was too unsure: {', '.join(quoted)}{more}."
    return [f"{note} {cure}".strip()]


def ending_notes(segments: Sequence[Segment]) -> list[str]:
    """Return notes about texts of a stream that were left out, or that the decoder did not end."""
    unended = [one for one in segments if one.outcome in ("cut_off", "loop")]
    places = [f"{one.start_s:.1f} to {one.end_s:.1f} s ({one.outcome})" for one in unended]
    cut = [f"The text may not be whole: {', '.join(places)}."] if places else []
    return withheld_note(segments) + cut


@dataclass(frozen=True)
class Timings:
    """The times that went into one transcript; the time of a shared batch is divided by length."""

    decode_s: float = 0.0  # the file to samples, and finding the pauses
    encode_s: float = 0.0  # samples to audio embeddings
    write_s: float = 0.0  # prompt and tokens, and the times of words

    @property
    def total_s(self) -> float:
        """Return the sum of all times."""
        return self.decode_s + self.encode_s + self.write_s


@dataclass(frozen=True)
class Transcript:
    """The text of one source. Segments cover it from 0 to `duration_s` without a gap."""

    source: str
    duration_s: float
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()  # what decoding the file lost or changed (`Note`)
    timings: Timings = Timings()

    def __post_init__(self) -> None:
        if abs(self.covered_s - self.duration_s) > COVERAGE_S:
            raise ValueError(
                f"{self.source}: segments cover {self.covered_s:.3f} s of {self.duration_s:.3f} s"
            )

    @property
    def covered_s(self) -> float:
        """Return the seconds that lie in a segment, each counted once."""
        covered, end = 0.0, 0.0
        for segment in sorted(self.segments, key=lambda segment: segment.start_s):
            covered += max(0.0, segment.end_s - max(end, segment.start_s))
            end = max(end, segment.end_s)
        return covered

    @property
    def missing_s(self) -> float:
        """Return the seconds that the notes call missing; with `covered_s` they are the file."""
        return sum(note.missing_s for note in self.notes if isinstance(note, Note))

    @property
    def text(self) -> str:
        """Return the texts of all segments; "" for "no_speech" and where only blanks came."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """Return the words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def confidence(self) -> float | None:
        """Return the geometric mean of the words' confidences; None where there is no word."""
        sure = [word.confidence for word in self.words if word.confidence]
        return math.exp(sum(map(math.log, sure)) / len(sure)) if sure else None

    @property
    def real_time_factor(self) -> float:
        """Return seconds of work per second of audio; below 1 is faster than it was spoken."""
        return self.timings.total_s / self.duration_s if self.duration_s else 0.0

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome of any segment; "no_speech" if none of them holds a word."""
        happened = {segment.outcome for segment in self.segments}
        for bad in ("loop", "cut_off"):
            if bad in happened:
                return bad
        return "ok" if self.text else "no_speech"

    @property
    def complete(self) -> bool:
        """Tell whether the decoder finished every segment by itself."""
        return self.outcome in ("ok", "no_speech")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "text": self.text,
            "duration_s": round(self.duration_s, 3),
            "covered_s": round(self.covered_s, 3),
            "missing_s": round(self.missing_s, 3),
            "outcome": self.outcome,
            "complete": self.complete,
            "notes": list(self.notes),
            "timings": {
                **{name: round(value, 4) for name, value in asdict(self.timings).items()},
                "total_s": round(self.timings.total_s, 4),
                "real_time_factor": round(self.real_time_factor, 4),
            },
            "segments": [_rounded(asdict(segment)) for segment in self.segments],
        }


def _rounded(segment: dict[str, Any]) -> dict[str, Any]:
    """Return a segment's values with the times of its words in whole milliseconds, and with their
    speakers only where they are known.
    """
    for word in segment["words"]:
        if word["speaker"] is None:
            del word["speaker"]
        for key in ("start_s", "end_s"):
            word[key] = None if word[key] is None else round(word[key], 3)
    return segment
