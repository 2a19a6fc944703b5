"""Reading a GGUF file: its metadata, and its tensors as plain numbers.

The format is llama.cpp's. A file that is cut or holds another format is refused. The common types
of tensors are made into numbers here, the many others by the `gguf` package (extra [gguf]).
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .binary import BinaryFile, parsing
from .errors import CheckpointError, MissingExtra

# Metadata types that have a fixed width, as `struct` spells them; 8 is a text, 9 an array.
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
TEXT, ARRAY = 8, 9
# Types of tensors by their numbers; of blocks: name, numbers in a block, bytes of a block.
PLAIN = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
Q4_0, Q4_1, Q8_0 = 2, 3, 8
BLOCKS = {Q4_0: ("Q4_0", 32, 18), Q4_1: ("Q4_1", 32, 20), Q8_0: ("Q8_0", 32, 34)}


@dataclass(frozen=True)
class Stored:
    """One tensor as it lies in the file."""

    shape: tuple[int, ...]
    type: int
    start: int


@dataclass(frozen=True)
class Gguf:
    """A file's metadata and table of tensors; `tensor` reads one."""

    file: BinaryFile
    metadata: dict[str, Any]
    stored: dict[str, Stored]

    @property
    def path(self) -> str:
        return self.file.path

    def quantisation(self) -> str:
        """Return the type of most numbers, e.g. "Q4_1"; "" where that is a plain float."""
        numbers: dict[int, int] = {}
        for tensor in self.stored.values():
            numbers[tensor.type] = numbers.get(tensor.type, 0) + math.prod(tensor.shape)
        most = max(numbers, key=lambda kind: numbers[kind], default=0)
        return "" if most in PLAIN else block_of(most, self.path)[0]

    def tensor(self, name: str) -> Tensor:
        """Read one tensor in float32, or in the float type that the file holds."""
        stored = self.stored[name]
        if stored.type in PLAIN:
            return self.file.tensor(name, stored.start, stored.shape, PLAIN[stored.type])
        label, numbers, width = block_of(stored.type, self.path)
        if not stored.shape or stored.shape[-1] % numbers:
            raise CheckpointError(
                f"{self.path}: {name} has the shape {stored.shape}; {label} holds rows of "
                f"{numbers}, {2 * numbers}, …"
            )
        blocks = (math.prod(stored.shape) // numbers, width)
        blocks_NW = self.file.tensor(name, stored.start, blocks, torch.uint8)
        return dequantised(blocks_NW, stored.type).view(stored.shape)


def block_of(kind: int, path: str) -> tuple[str, int, int]:
    """Return the name, the numbers and the bytes of a block of a quantised type."""
    if kind in BLOCKS:
        return BLOCKS[kind]
    package = gguf_package()
    try:
        known = package.GGMLQuantizationType(kind)
    except ValueError as error:
        raise CheckpointError(f"{path} holds tensors of an unknown type ({kind}).") from error
    return known.name, *package.GGML_QUANT_SIZES[known]


def gguf_package() -> Any:
    """Import the `gguf` package, for types that are not in BLOCKS."""
    try:  # transformers asks for what a model's files import otherwise
        import gguf
    except ImportError as error:
        raise MissingExtra("Reading a GGUF file of this type", "gguf") from error
    return gguf


def dequantised(blocks_NW: Tensor, kind: int) -> Tensor:
    """Return the numbers of blocks: a 16-bit scale, an offset in Q4_1, 4 or 8 bits a number."""
    if kind not in BLOCKS:
        package = gguf_package()
        values = package.dequantize(blocks_NW.numpy(), package.GGMLQuantizationType(kind))
        return torch.from_numpy(values)
    scale_N1 = blocks_NW[:, :2].contiguous().view(torch.float16).float()
    if kind == Q8_0:
        return blocks_NW[:, 2:].view(torch.int8).float().mul_(scale_N1)
    packed_N16 = blocks_NW[:, 4 if kind == Q4_1 else 2 :]
    values_N32 = torch.empty(len(blocks_NW), 32)
    values_N32[:, :16] = packed_N16 & 15
    values_N32[:, 16:] = packed_N16 >> 4
    if kind == Q4_0:
        return values_N32.sub_(8).mul_(scale_N1)
    return values_N32.mul_(scale_N1).add_(blocks_NW[:, 2:4].contiguous().view(torch.float16))


def read_gguf(path: str) -> Gguf:
    """Read a file's metadata and table of tensors; the same object until the file changes."""
    found = Path(path).stat()
    return _read(path, found.st_mtime_ns, found.st_size)


def forget() -> None:
    """Close the file that was read last."""
    _read.cache_clear()


@functools.lru_cache(maxsize=1)  # a decoder's config, weights and tokenizer come from one file
def _read(path: str, _changed: int, _size: int) -> Gguf:
    file = BinaryFile(path)
    with parsing(path):
        magic, version, num_tensors, num_values = file.take("4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise CheckpointError(
                f"{path} is no GGUF file of version 2 or 3 (it begins with {magic!r}, {version})."
            )
        metadata = {_text(file): _value(file, file.take("I")) for _ in range(num_values)}
        table = [_row(file) for _ in range(num_tensors)]
    step = metadata.get("general.alignment", 32)
    if not isinstance(step, int) or step < 1:
        raise CheckpointError(f"{path}: general.alignment is {step!r}, expected e.g. 32.")
    start = -(-file.at // step) * step
    stored = {name: Stored(shape, kind, start + at) for name, shape, kind, at in table}
    if len(stored) != len(table):
        raise CheckpointError(f"{path} names a tensor twice, so it is damaged.")
    return Gguf(file, metadata, stored)


def _text(file: BinaryFile) -> str:
    return file.text(file.take("Q"))


def _value(file: BinaryFile, kind: int) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        return file.take(SCALARS[kind])
    inner, count = file.take("IQ")
    return [_text(file) if inner == TEXT else file.take(SCALARS[inner]) for _ in range(count)]


def _row(file: BinaryFile) -> tuple[str, tuple[int, ...], int, int]:
    """Read name, shape, type and place of one tensor; the fastest dimension comes first."""
    name = _text(file)
    dims = tuple(file.take("Q") for _ in range(file.take("I")))
    kind, at = file.take("IQ")
    return name, dims[::-1], kind, at
