"""The one thread that has the model; windows of different requests share its batches.

Everything that touches model or tokenizer runs here. Tokenizers are not safe to share: one thread
would switch "control tokens are text" off while another encodes what a user wrote.
"""

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from threading import Thread
from typing import Any, NamedTuple

from tiny_audio.infer.longform import Window
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import PLAIN, Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.memory import return_freed_memory
from tiny_audio.model.prompt import Turn, transcription_turns

from .counters import Metrics
from .limits import Limits

IDLE_S = 1.0  # without anything to do, after which freed memory goes back to the system


class _Call(NamedTuple):
    """A call of something else that needs the model."""

    do: Callable[[], Any]
    done: "Future[Any]"


class _Work(NamedTuple):
    """A window, what is asked about it, and where its text goes."""

    window: Window
    duration_s: float
    request: Request
    done: "Future[Segment]"

    @property
    def kind(self) -> Request:
        """Return what must be equal in a batch: all but the prompt, which may differ."""
        return replace(self.request, prompt=None)


class Batcher:
    """Takes windows and calls from any thread; answers are futures. Cancelled ones are skipped.

    Its queue is bounded by the slots of the guard: a request has few windows in it at a time.
    """

    def __init__(self, transcriber: Transcriber, limits: Limits, metrics: Metrics) -> None:
        self.transcriber, self.limits, self.metrics = transcriber, limits, metrics
        self._queue: queue.Queue[_Work | _Call | None] = queue.Queue()
        self._held: list[_Work | _Call | None] = []  # taken, but not fit for the batch before
        self._start()

    def _start(self) -> None:
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs; if not, the next request starts one."""
        return self._thread.is_alive()

    def _put(self, item: "_Work | _Call") -> None:
        if not self.alive:
            self._start()
        self._queue.put(item)

    def submit(self, window: Window, request: Request = PLAIN) -> "Future[Segment]":
        """Return the future text of one window."""
        work = _Work(window, len(window.samples_N) / SAMPLE_RATE, request, Future())
        self._put(work)
        return work.done

    def call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run something on the model's thread, between two batches."""
        call = _Call(lambda: function(*arguments), Future())
        self._put(call)
        return call.done

    def close(self) -> None:
        """Finish what was given, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._next()) is not None:
            if isinstance(first, _Call):
                _settle(first.done, first.do)
            else:
                self._transcribe(self._gather(first))

    def _next(self) -> _Work | _Call | None:
        """Return what is to do next. While there is nothing, memory goes back to the system."""
        if self._held:
            return self._held.pop()
        try:
            return self._queue.get(timeout=IDLE_S)
        except queue.Empty:
            return_freed_memory()
            return self._queue.get()

    def _gather(self, first: _Work) -> list[_Work]:
        """Gather more windows, for as long as there is room and they come quickly."""
        batch, longest_s = [first], first.duration_s
        deadline = time.monotonic() + self.limits.batch_wait_s
        while len(batch) < self.limits.batch_items:
            try:
                more = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if not isinstance(more, _Work) or more.kind != first.kind:
                self._held.append(more)
                break
            longest_s = max(longest_s, more.duration_s)
            if longest_s * (len(batch) + 1) > self.limits.batch_s:
                self._held.append(more)
                break
            batch.append(more)
        return batch

    def _transcribe(self, batch: list[_Work]) -> None:
        """Transcribe one batch; a request that cannot be asked fails alone, before it."""
        wanted = [work for work in batch if work.done.set_running_or_notify_cancel()]
        ready, turns = [], []
        for work in wanted:
            try:
                turns.append(self._turns(work))
                ready.append(work)
            except BaseException as error:  # before anything is computed
                work.done.set_exception(_theirs(error))
        if not ready:
            return
        started = time.monotonic()
        try:
            windows = [work.window for work in ready]
            segments = self.transcriber.transcribe_windows(windows, turns, ready[0].kind)
        except BaseException as error:  # whatever it is, it is theirs: the thread must outlive it
            for work in ready:
                work.done.set_exception(_theirs(error))
            return
        self.metrics.batch_items.observe(len(ready))
        self.metrics.batch_seconds.observe(time.monotonic() - started)
        for work, segment in zip(ready, segments, strict=True):
            self.metrics.audio_seconds.inc(work.duration_s)
            work.done.set_result(segment)

    def _turns(self, work: _Work) -> list[Turn]:
        """Return the prompt of a window; raise what is wrong with it."""
        config = self.transcriber.model.config.prompt
        turns = transcription_turns(config, work.request.prompt)
        self.transcriber.room.check(turns, [len(work.window.samples_N)])
        return turns


def _settle(done: "Future[Any]", do: Callable[[], Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(do())
    except BaseException as error:  # as an executor does
        done.set_exception(_theirs(error))


def _theirs(error: BaseException) -> Exception:
    """Return the failure of one request. A panic of compiled code (a tokenizer's) is no
    `Exception`, and would pass every handler on its way out.
    """
    if isinstance(error, Exception):
        return error
    failure = RuntimeError(f"The model's code failed ({type(error).__name__}: {error})")
    failure.__cause__ = error
    return failure
