"""A process that turns uploads into samples, and may crash or hang without harm.

Importing this module is what the fork server does once: torch and the decoders are then shared by
all workers, and a new one takes milliseconds. A worker sees bytes and the name of a file to write.
"""

import os
import re
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tiny_audio.model.audio import SAMPLE_RATE, stream_audio
from tiny_audio.model.errors import AudioError, Reason, TinyAudioError
from tiny_audio.model.source import DecodeLimits, Note

from .limits import Limits

with suppress(ImportError):  # an extra; without it m4a, aac and webm are refused
    import av  # noqa: F401

BYTES_PER_S = 4 * SAMPLE_RATE


class Reply(NamedTuple):
    """The fate of an upload: its notes, or why it was refused."""

    notes: tuple[str, ...]
    refusal: str = ""
    reason: Reason = Reason.UNREADABLE
    trouble: str = ""  # the server's own: the file may be good
    worn: bool = False  # this process has no memory left, and a new one may have


def serve_decoding(pipe: Connection, limits: Limits) -> None:
    """Answer uploads until the pipe closes."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the service says when to stop
        signal.signal(ignored, signal.SIG_IGN)
    _confine(limits)
    _mute()
    with suppress(EOFError):
        while True:
            path, track = pipe.recv()
            try:
                upload = pipe.recv_bytes()
            except MemoryError:
                pipe.send(_worn(limits))
                return  # out of step with who asks; a new process will not be
            pipe.send(decode(upload, Path(path), limits, track))


def decode(upload: bytes, path: Path, limits: Limits, track: int | None = None) -> Reply:
    """Write the upload's samples (float32, 16 kHz, mono) to `path`, block by block."""
    notes: list[str] = []
    bounds = DecodeLimits(limits.max_audio_s, limits.max_upload_bytes)
    try:
        with path.open("wb") as file:
            for block in stream_audio(
                {"bytes": upload, "path": "upload"}, limits=bounds, notes=notes, track=track
            ):
                file.write(block.numpy().tobytes())
    except AudioError as error:
        return Reply((), of_requests(str(error)), error.reason)
    except TinyAudioError as error:
        return Reply((), of_requests(str(error)))
    except OSError as error:  # the upload is in memory: what failed is writing its samples
        return Reply((), trouble=f"its samples cannot be written ({error.strerror})")
    except MemoryError:
        return _worn(limits)
    return Reply(tuple(map(reworded, notes)))


def _worn(limits: Limits) -> Reply:
    """Make the reply of a process that has no memory left."""
    needed = f"decoding it takes more memory than {limits.decode_memory_bytes:,} bytes"
    return Reply((), trouble=needed, worn=True)


def reworded(note: str) -> str:
    """Return the note in words of the API, with the seconds that it speaks of."""
    text = of_requests(note)
    if isinstance(note, Note):
        return Note(text, note.reason, note.missing_s, note.silent_s)
    return text


def of_requests(message: str) -> str:
    """Return a message without advice that only Python and the command line can follow."""
    message = re.sub(r"others with --track (\d+)", r"others with track=\1", message)
    message = re.sub(r"(Pass limits=|Use stream_audio).*", "Send less of it.", message)
    return re.sub(r"[,;] (or )?(pass|use) [^.;]*(--|=)[^.;]*", "", message)


def _mute() -> None:
    """Send notes that native libraries print about a file nowhere (7 MB of mp3 wrote 8 MB of them);
    what Python says about itself still reaches the log.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _confine(limits: Limits) -> None:
    """Limit private memory, the size of a file and the number of files."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere the wall clock alone must do
        pages = next(line for line in status.read_text().splitlines() if line.startswith("VmData"))
        held = 1024 * int(pages.split()[1])
        _lower(resource.RLIMIT_DATA, held + limits.decode_memory_bytes)
    _lower(resource.RLIMIT_FSIZE, int((limits.max_audio_s + 60) * BYTES_PER_S))
    _lower(resource.RLIMIT_NOFILE, 64)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))
