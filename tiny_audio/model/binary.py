"""Reading a binary file value by value: little-endian numbers, texts, and tensors in place."""

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError


class BinaryFile:
    """A mapped file and a place in it, from which `take` and `text` read on."""

    def __init__(self, path: str) -> None:
        self.path, self.at = path, 0
        with Path(path).open("rb") as file:
            if not (size := file.seek(0, 2)):
                raise CheckpointError(f"{path} is empty. Download it again.")
            self.data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)

    def take(self, form: str) -> Any:
        """Read one value of a `struct` format, or a tuple of several."""
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found[0] if len(found) == 1 else found

    def text(self, size: int) -> str:
        """Read the next `size` bytes as UTF-8."""
        if size > len(self.data) - self.at:
            raise struct.error(f"a text of {size} bytes at byte {self.at}")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def tensor(self, name: str, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a copy of the tensor that begins at byte `start`."""
        end = start + math.prod(shape) * dtype.itemsize
        if end > len(self.data):
            raise CheckpointError(
                f"{self.path} is cut: {name} ends at byte {end}, the file at {len(self.data)}. "
                f"Download it again."
            )
        if end == start:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(self.data[start:end]), dtype=dtype).view(shape)


@contextmanager
def parsing(path: str) -> Iterator[None]:
    """Turn errors while a file's tables are read into one that says the file is cut or damaged."""
    try:
        yield
    except (struct.error, KeyError, IndexError, UnicodeDecodeError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is cut or damaged ({error!r}). Download it again."
        ) from error
