"""Turning uploads into samples, in processes that are killed when they take too long."""

import multiprocessing
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import AudioError

from .counters import Metrics
from .decode_worker import Reply, serve_decoding
from .limits import Limits
from .refusals import Refusal, no_room


@dataclass(frozen=True)
class DecodedUpload:
    """A decoded upload. Its samples lie in a file without a name, which is deleted with it."""

    samples_N: NDArray[np.float32]
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples_N) / SAMPLE_RATE


class DecodePool:
    """The pool of `limits.decode_workers` processes; each is asked by one thread at a time."""

    def __init__(self, limits: Limits, folder: Path, metrics: Metrics) -> None:
        self.limits, self.folder, self.metrics = limits, folder, metrics
        self._names = count()
        self._threads = ThreadPoolExecutor(limits.decode_workers, "decode")
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(limits.decode_workers):  # the first one imports torch: not in our way
            self._threads.submit(self._start)

    def submit(self, upload: BinaryIO, track: int | None = None) -> "Future[DecodedUpload]":
        """Decode an open file; its bytes are read when a worker is free, not before."""
        return self._threads.submit(self._decode, upload, track)

    def _start(self) -> None:
        """Start a process where there is none; a failure is raised, and tried again next time."""
        worker = None
        try:
            worker = self._worker()
        finally:
            self._idle.put(worker)

    def _worker(self) -> "_Worker":
        try:
            return _Worker(self.limits)
        except OSError as error:
            cure = "On the server, set TMPDIR to a short path on a disk with free space"
            raise Refusal(
                503, f"No process to decode files can start ({error}). {cure}."
            ) from error

    def _decode(self, upload: BinaryIO, track: int | None) -> DecodedUpload:
        path = self.folder / f"{next(self._names)}.f32"
        upload.seek(0)
        data = upload.read()  # whole: a file closed midway must not leave half a question
        try:
            reply = self._ask(data, path, track)
            if reply.trouble:
                raise no_room(reply.trouble)
            if reply.refusal:
                raise AudioError(reply.refusal, reply.reason)
            return DecodedUpload(np.memmap(path, np.float32, "r"), reply.notes)
        finally:
            path.unlink(missing_ok=True)

    def _ask(self, data: bytes, path: Path, track: int | None) -> Reply:
        worker = self._idle.get()
        try:
            reply = None
            for _ in range(2):  # a process may have been dead before: once more with a fresh one
                worker = worker or self._worker()
                try:
                    reply = worker.ask(data, path, track)
                except Refusal:
                    worker = self._end(worker)
                    raise
                if reply and not reply.worn:
                    return reply
                worker = self._end(worker)
            if reply:
                return reply
            raise Refusal(400, "This file crashes the decoder. Convert it first.", param="file")
        finally:
            self._idle.put(worker)

    def _end(self, worker: "_Worker") -> "_Worker | None":
        """End a process that hangs or is dead; another one is started when it is needed."""
        self.metrics.decoder_losses.inc()
        worker.end()
        return None

    def close(self) -> None:
        """End all processes; what is being decoded is finished first."""
        self._threads.shutdown()
        for _ in range(self.limits.decode_workers):
            if worker := self._idle.get():
                worker.end()


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, limits: Limits) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tiny_audio.serve.decode_worker"])
        self.limits = limits
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve_decoding, args=(theirs, limits), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, data: bytes, path: Path, track: int | None) -> Reply | None:
        """Have an upload decoded to `path`; None if the process dies, `Refusal` if it hangs."""
        timeout_s = self.limits.decode_timeout_s
        try:
            self.pipe.send((str(path), track))
            self.pipe.send_bytes(data)
            if self.pipe.poll(timeout_s):
                return self.pipe.recv()
        except (EOFError, ConnectionError):
            return self._last_words()
        raise Refusal(
            400, f"Decoding took more than {timeout_s:g} s. Convert it first.", param="file"
        )

    def _last_words(self) -> Reply | None:
        """Return the last reply of a process that has ended, if it sent one."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, ConnectionError):
            return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
