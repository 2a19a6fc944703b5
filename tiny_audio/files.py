"""Files that are there whole or not at all, JSON that says what to do when it is damaged, and
folders that belong to one run at a time.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_audio.model.errors import ConfigError

LOCK = ".lock"
UNFINISHED = ".tmp"  # the ending of files that are being written
_numbers = itertools.count()
_held: set[Path] = set()  # by this process


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Lend a path beside `path` to write to; what was written takes its place at the end, also
    after a power cut. Where it fails, nothing is left and an earlier file stays as it was; an error
    of the system names `path`.
    """
    if path.exists() and not path.is_file():  # a pipe or a device
        yield path
        return
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}-{next(_numbers)}{UNFINISHED}")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole."""
    with whole(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def json_line(values: Any, indent: int | None = None) -> str:
    """Return JSON that can be written: a file's name that is not UTF-8 is escaped."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(values, indent=indent)
    return text


def without_nan(values: Any) -> Any:
    """Return JSON values with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(values, Mapping):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def append_json(path: Path, values: Any) -> None:
    """Append one line of JSON in UTF-8, whatever the system's own encoding is."""
    with path.open("ab") as file:
        file.write(f"{json_line(values)}\n".encode())


def write_json(path: Path, values: Any) -> None:
    """Write JSON for people to read, whole."""
    write_text(path, json_line(values, indent=1) + "\n")


def write_first_json(path: Path, values: Any) -> None:
    """Write JSON, whole, unless the file is there already: of processes that begin together, what
    the first one wrote stays.
    """
    temporary = _beside(path)
    try:
        write_json(temporary, values)
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:  # not every file system knows links
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if not path.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, cure: str, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON object in a file that this library wrote, with the keys that it needs; else
    raise a `ConfigError` with the cure.
    """
    found = as_object(read_any_json(path, cure), path, cure)
    if missing := [key for key in needs if key not in found]:
        raise ConfigError(f"{path} has no {missing[0]!r}, so it is not whole. {cure}")
    return found


def read_any_json(path: Path, cure: str) -> Any:
    """Return any JSON value of such a file."""
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON ({error}). {cure}") from error


def as_object(found: Any, path: Path, cure: str) -> dict[str, Any]:
    """Return a JSON object; raise a `ConfigError` for any other value."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path} holds no JSON object. {cure}")
    return dict(found)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder until the end, or until the run's last process ends, however it ends.

    `ConfigError` while another run has it. A run inside of a run of the same folder is the same.
    """
    here = folder.resolve()
    if here in _held:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(here / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror}).") from error
    try:
        # Alone first, then together with the processes of this run, which `joined` lets in.
        if not (_lock(file, alone=True) and _lock(file, alone=False)):
            raise ConfigError(
                f"{folder} is in use by another run{_owner(file)}. Wait until it ends, stop it, or "
                f"give this one another folder."
            )
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        _held.add(here)
        yield
    finally:
        _held.discard(here)
        os.close(file)


@contextmanager
def joined(folder: Path) -> Iterator[None]:
    """Join the run that holds the folder: while this process lives, the folder is not free."""
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file, alone=False)
        yield
    finally:
        os.close(file)


def _owner(file: int) -> str:
    number = os.pread(file, 20, 0).decode("ascii", "replace").strip()
    return f" (process {number})" if number.isdecimal() else ""


if sys.platform == "win32":

    def _lock(file: int, alone: bool) -> bool:
        """Do nothing: Windows has no lock that several share; the first process holds enough."""
        import msvcrt

        if not alone:
            return True
        try:
            os.lseek(file, 1 << 20, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _lock(file: int, alone: bool) -> bool:
        """Return whether the lock was free; it goes when the process ends. Where the file system
        knows no locks, it is always free.
        """
        import fcntl

        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
        return True


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Return every value that differs, by its dotted name."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        at = f"{name}." if name else ""
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{at}{k}")]
    return [] if before == now else [f"{name}: {before!r} there, {now!r} now"]
