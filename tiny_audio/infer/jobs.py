"""Sources that are being transcribed: their windows, their results so far, and batches of
windows.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, NamedTuple

from tiny_audio.model.audio import SAMPLE_RATE, source_name
from tiny_audio.model.errors import TinyAudioError

from .joining import join
from .longform import Window
from .results import Segment, Timings, Transcript, withheld_note
from .speakers import with_speakers
from .voices import Embed, Voice, voices_of

# Windows that are held back so that those of about one length can share a batch, and the seconds
# of a batch, padding counted.
POOL_WINDOWS = 32
BATCH_S = 120.0


KEEP = "A lower min_logprob (--min-logprob -99) keeps them."
Timed = Callable[[Window, Segment], Segment]


class Failed(NamedTuple):
    """A source that could not be transcribed, and why."""

    source: Any
    error: TinyAudioError


@dataclass
class Job:
    """One source while it is transcribed."""

    source: Any
    notes: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    num_waiting: int = 0
    ended: bool = False
    error: TinyAudioError | None = None
    timed: Timed | None = None  # gives words their times, to join windows by
    last: Window | None = None
    embed: Embed | None = None  # tells voices apart, where it is asked who spoke
    num_speakers: int | None = None
    voices: list[Voice] = field(default_factory=list)

    def read(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield the windows of this source; an error ends them and is kept."""
        while True:
            started = perf_counter()
            try:
                window = next(windows, None)
            except TinyAudioError as error:
                self.error, window = error, None
            self.spend(Timings(decode_s=perf_counter() - started))
            if window is None:
                break
            self.num_waiting += 1
            yield window
        self.ended = True

    def take(self, window: Window, segment: Segment, timings: Timings) -> None:
        """Take the next window's segment."""
        self.num_waiting -= 1
        self.spend(timings)
        if window.overlap and self.segments:
            self.segments[-1], segment = self._joined(self.segments[-1], window, segment)
        self.segments.append(segment)
        self.last = window
        if self.embed and segment.words:
            started = perf_counter()
            self.voices += voices_of(window, self.embed)
            self.spend(Timings(encode_s=perf_counter() - started))

    def _joined(self, before: Segment, window: Window, after: Segment) -> tuple[Segment, Segment]:
        """Join the segment with the one before, by word times that are found only for this."""
        overlap_s = window.overlap / SAMPLE_RATE
        if self.timed is None or self.last is None:
            return join(before, after, overlap_s)
        first, second = join(self.timed(self.last, before), self.timed(window, after), overlap_s)
        dropped = len(after.words) - len(second.words)
        return (
            replace(first, words=before.words[: len(first.words)]),
            replace(second, words=after.words[dropped:]),
        )

    def spend(self, more: Timings) -> None:
        """Add to the time that went into this source."""
        mine = self.timings
        self.timings = Timings(
            mine.decode_s + more.decode_s,
            mine.encode_s + more.encode_s,
            mine.write_s + more.write_s,
        )

    def result(self) -> Transcript | Failed:
        """Return the transcript of the source, or why there is none."""
        if self.error is not None:
            return Failed(self.source, self.error)
        end_s = self.segments[-1].end_s
        found = tuple(self.segments)
        notes = (*self.notes, *withheld_note(found, KEEP))
        made = Transcript(source_name(self.source), end_s, found, notes, self.timings)
        return with_speakers(made, self.voices, self.num_speakers)


def finished(jobs: deque[Job]) -> Iterator[Transcript | Failed]:
    """Yield the results of jobs, from the first on, up to one that is not done."""
    while jobs and jobs[0].ended and not jobs[0].num_waiting:
        yield jobs.popleft().result()


def batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Yield the numbers of windows in batches: those of one batch have about one length, and take
    `BATCH_S` seconds at most when they are padded.
    """
    batch: list[int] = []
    for number in sorted(range(len(windows)), key=lambda n: -len(windows[n].samples_N)):
        longest = len(windows[batch[0]].samples_N) if batch else 0
        if batch and longest * (len(batch) + 1) > BATCH_S * SAMPLE_RATE:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
