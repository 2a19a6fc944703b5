"""Stopping a run: a signal asks it to save and to end, and no process outlives the one that began
it.

The loop asks `is_asked` once a step, in all processes together, so that they end at the same step.
A second signal ends a process at once.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tiny_audio.model.errors import TinyAudioError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = threading.Event()


class Stopped(TinyAudioError):  # noqa: N818 — it is no error that a run was asked to end
    """A run was asked to end, and has saved what it had."""


def is_asked() -> bool:
    """Tell whether a signal has asked this process to end its run."""
    return _asked.is_set()


@contextmanager
def stoppable(also: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask a run to end (and call `also`) while it goes on.

    Only the main thread may set handlers; in another one signals keep their meaning.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: Any) -> None:
        if _asked.is_set():
            raise KeyboardInterrupt
        _asked.set()
        also()

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def end_with(pid: int) -> None:
    """Get SIGTERM when the process `pid` ends, also by kill -9 (Linux).

    Workers are children of the fork server, and their own file descriptors keep that one alive, so
    it is the process that began the run which is watched.
    """
    if sys.platform != "linux":
        return
    ended = os.pidfd_open(pid)

    def watch() -> None:
        select.select([ended], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
