"""libsndfile, as `decode.py` uses it: files from front to back, and what their headers announce."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import soundfile

from .headers import UNKNOWN_SIZES

# libsndfile quietly corrects a data size that the file does not hold, but says so in its log.
_CORRECTED = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)", re.M
)


class SoundFile(soundfile.SoundFile):
    """A sound file read once from front to back: the base class would seek after every block."""

    def __init__(self, *given: Any, **options: Any) -> None:
        with _interrupted_later():
            super().__init__(*given, **options)

    def read(self, *given: Any, **options: Any) -> Any:
        with _interrupted_later():
            return super().read(*given, **options)

    def seekable(self) -> bool:
        return False


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Keep Ctrl-C until libsndfile has returned: an exception in a function that it calls is
    printed and lost, and the sound with it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # no exception comes of it, or not here
        return
    kept = list[int]()
    signal.signal(signal.SIGINT, lambda number, _: kept.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if kept:
            handler(kept[0], None)


def why(error: soundfile.LibsndfileError) -> str:
    """Return what libsndfile says is wrong, without "Error" before it and the stop behind it."""
    return str(error.error_string).removeprefix("Error : ").rstrip(".")


def promised_frames(file: SoundFile, head: bytes) -> int | None:
    """Return the number of frames that the header announces; None where it does not say."""
    if sphere := re.match(rb"NIST_1A\s[^\0]*sample_count -i (\d+)", head):
        return int(sphere[1])
    if found := _CORRECTED.search(file.extra_info):
        announced, actual = int(found[1]), int(found[2])
        unknown = any(announced in sizes for sizes in UNKNOWN_SIZES)
        return None if unknown else file.frames * announced // max(1, actual)
    return file.frames if file.frames < 2**62 else None
