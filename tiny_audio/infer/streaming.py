"""Transcribing live sound: partial words may change, and final ones never do.

The model is the one for whole files, so this is repeated decoding, not a streaming encoder: the
open window is decoded again every half second. Windows end where those of a file end
(`longform.push`), and a window that has ended is final; so a stream's final text is the file's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import Any, NamedTuple

import soxr
import torch
from torch import Tensor

from tiny_audio.model.audio import SAMPLE_RATE, load_audio

from .joining import join
from .longform import Cutting, Window, finish, push
from .results import Segment
from .transcriber import PLAIN, Request, Transcriber

STEP_S = 0.5  # new sound between two partial results
MARGIN_S = 0.05  # sound on both sides of what is resampled; soxr's filter reaches 6 ms


class Event(NamedTuple):
    """A stretch of the stream: its segment, and whether it may still change.

    Final segments follow each other without a gap; a partial one begins where they end.
    """

    final: bool
    segment: Segment


@dataclass(frozen=True)
class Resampling:
    """Samples at the source's rate that are still needed, and how many of them are done."""

    held_N: Tensor
    done: int = 0


@dataclass(frozen=True)
class State:
    """A stream between two calls of `feed`. It is a value: the stream can go on twice from it."""

    resampling: Resampling
    cutting: Cutting
    pending: Segment | None = None  # ended, but its last words may be joined with the next one's
    shown: int = 0  # the sample up to which the last partial result goes


class Streamer:
    """A transcriber that works while sound arrives, from a microphone or a pipe.

    ```python
    streamer = Streamer(Transcriber.from_pretrained("nano"), sampling_rate=48_000)
    state = streamer.start()
    for samples in microphone:
        events, state = streamer.feed(samples, state)
    events, state = streamer.finish(state)
    ```
    """

    def __init__(
        self,
        transcriber: Transcriber,
        sampling_rate: int = SAMPLE_RATE,
        request: Request = PLAIN,
        step_s: float = STEP_S,
    ):
        self.transcriber = transcriber
        self.sampling_rate = sampling_rate
        self.request = request
        self.policy = transcriber.cutting(request.whole)
        self.step = round(step_s * SAMPLE_RATE)

    def start(self) -> State:
        """Return the state before the first sample."""
        return State(Resampling(torch.empty(0)), Cutting())

    def feed(self, samples: Any, state: State) -> tuple[list[Event], State]:
        """Take more samples, as `load_audio` takes an array; return what is new, in order.

        At most one partial result a call, so a caller who falls behind catches up.
        """
        if not len(samples):
            return [], state
        rate = self.sampling_rate
        audio = load_audio(samples, rate, target_rate=rate)
        samples_N, resampling = resample(audio.samples, state.resampling, rate)
        events, state = self._take(samples_N, replace(state, resampling=resampling))
        if partial := self._partial(state):
            events.append(partial)
            state = replace(state, shown=state.cutting.end)
        return events, state

    def finish(self, state: State) -> tuple[list[Event], State]:
        """End the stream: everything becomes final. The state given back is a new start."""
        rest_N, _ = resample(torch.empty(0), state.resampling, self.sampling_rate, last=True)
        events, state = self._take(rest_N, state)
        for window in finish(state.cutting):
            closed, state = self._close(window, state, False)
            events += closed
        if state.pending:
            events.append(Event(True, state.pending))
        return events, self.start()

    def _take(self, samples_N: Tensor, state: State) -> tuple[list[Event], State]:
        windows, cutting = push(samples_N, state.cutting, self.policy)
        events: list[Event] = []
        starts = [*(window.start for window in windows), cutting.start][1:]
        for window, next_start in zip(windows, starts, strict=True):
            overlaps = next_start < window.start + len(window.samples_N)
            closed, state = self._close(window, state, overlaps)
            events += closed
        return events, replace(state, cutting=cutting)

    def _close(self, window: Window, state: State, overlaps: bool) -> tuple[list[Event], State]:
        """Write an ended window; it is final unless the next one overlaps its end."""
        (segment,) = self.transcriber.transcribe_windows([window], request=self.request)
        events = []
        if state.pending:
            before, segment = join(state.pending, segment, window.overlap / SAMPLE_RATE)
            events.append(Event(True, before))
        if overlaps:
            return events, replace(state, pending=segment)
        return [*events, Event(True, segment)], replace(state, pending=None)

    def _partial(self, state: State) -> Event | None:
        """Return the text of the open window so far, if it has one and enough of it is new."""
        cutting = state.cutting
        if all(cutting.quiet) or cutting.end - max(state.shown, cutting.start) < self.step:
            return None
        request = replace(self.request, timestamps="segment", beams=1, ctc_weight=0.0)
        window = Window(cutting.start, cutting.held_N, cutting.overlap)
        (segment,) = self.transcriber.transcribe_windows([window], request=request)
        if state.pending:
            segment = joined(*join(state.pending, segment, cutting.overlap / SAMPLE_RATE))
        return Event(False, segment)


def joined(before: Segment, after: Segment) -> Segment:
    """Join two segments to one."""
    text = " ".join(filter(None, (before.text, after.text)))
    words = before.words + after.words
    return replace(after, start_s=before.start_s, text=text, words=words)


def resample(
    samples_N: Tensor, state: Resampling, rate: int, last: bool = False
) -> tuple[Tensor, Resampling]:
    """Resample more samples from `rate` to 16 kHz, but for those that later ones still change;
    `last` says that none will come.

    Worked on in whole units (441 samples at 44.1 kHz are 160 at 16) with a margin on both sides, so
    what comes out depends neither on how it arrived nor on a resampler's hidden state.
    """
    if rate == SAMPLE_RATE:
        return samples_N, state
    unit = rate // gcd(rate, SAMPLE_RATE)
    margin = ceil(MARGIN_S * rate / unit) * unit
    held_N = torch.cat([state.held_N, samples_N])
    end = len(held_N) if last else (len(held_N) // unit) * unit - margin
    if end <= state.done:
        return torch.empty(0), replace(state, held_N=held_N)
    out_N = torch.from_numpy(soxr.resample(held_N.numpy(), rate, SAMPLE_RATE, "HQ"))
    first, after = (round(at * SAMPLE_RATE / rate) for at in (state.done, end))
    dropped = max(0, (end - margin) // unit * unit)
    return out_N[first:after], Resampling(held_N[dropped:].clone(), end - dropped)


def events_of(streamer: Streamer, blocks: Iterator[Any]) -> Iterator[Event]:
    """Yield the events of a whole stream, as they come."""
    state = streamer.start()
    for block in blocks:
        events, state = streamer.feed(block, state)
        yield from events
    yield from streamer.finish(state)[0]
