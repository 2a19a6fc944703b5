"""Recorded speech of three free games in Debian: `python -m recipes.tiny.games`.

    beneath-a-steel-sky          3,500 lines, British actors, 8 bits at 11 kHz
    flight-of-the-amazon-queen   6,700 lines, American actors, MP3 of 16 kbit/s at 11 kHz
    drascula                     780 lines, 8 bits at 11 kHz

Their licences (BSD-like; `copyright` in each package) allow use and change. The packages are only
downloaded and unpacked, nothing is installed. No transcript belongs to the lines: Whisper tiny.en
writes them (`label.py`), and lines that it is unsure of are left out.
"""

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from recipes.tiny.corpus import to_int16, write_shard
from recipes.tiny.label import Labeller
from recipes.tiny.paths import CORPUS, RUNS
from tiny_audio.model.audio import SAMPLE_RATE

PACKAGES = ("beneath-a-steel-sky", "flight-of-the-amazon-queen", "drascula")
RATE, LONGEST_S, SHARD = 11_025, 20.0, 250
HEADER = 22  # bytes before the sound of a steel-sky line
Line = tuple[str, np.ndarray]  # name, samples at 16 kHz


def unpacked(package: str) -> Path:
    """Return the package's `usr/share`; download it if it is missing, without installing it."""
    folder = RUNS / "games" / package
    if not folder.is_dir():
        folder.mkdir(parents=True)
        subprocess.run(["apt-get", "download", package], cwd=folder.parent, check=True)
        archive = next(folder.parent.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return folder / "usr" / "share"


def sound(unsigned: bytes) -> np.ndarray:
    """Convert eight unsigned bits at 11 kHz to samples at 16 kHz."""
    samples = (np.frombuffer(unsigned, np.uint8).astype(np.float32) - 128) / 128
    return soxr.resample(samples, RATE, SAMPLE_RATE)


def steel_sky(folder: Path) -> Iterator[Line]:
    """Lines have the numbers 50,000 to 55,999 in the index; packed ones hold `RNC`."""
    index, disk = (folder / "sky.dnr").read_bytes(), (folder / "sky.dsk").read_bytes()
    for at in range(4, 4 + 8 * int.from_bytes(index[:4], "little"), 8):
        number, offset, size = (
            int.from_bytes(index[at + a : at + b], "little") for a, b in ((0, 2), (2, 5), (5, 8))
        )
        if 50_000 <= number < 56_000:
            offset = (offset & 0x7FFFFF) << 4 if offset >> 23 else offset
            packed = disk[offset + HEADER : offset + (size & 0x3FFFFF)]
            if packed.startswith(b"RNC\x01"):
                yield f"sky-{number}", sound(Unpacker(packed).unpack())


def amazon_queen(folder: Path) -> Iterator[Line]:
    """`queen.1c` begins with a table of 21 bytes a file; speech is in the .SB files."""
    whole = (folder / "queen.1c").read_bytes()
    for at in range(15, 15 + 21 * int.from_bytes(whole[13:15], "big"), 21):
        name = whole[at : at + 12].split(b"\0")[0].decode()
        offset = int.from_bytes(whole[at + 13 : at + 17], "big")
        size = int.from_bytes(whole[at + 17 : at + 21], "big")
        if name.endswith(".SB"):
            samples, rate = soundfile.read(io.BytesIO(whole[offset : offset + size]), dtype="f4")
            yield f"queen-{name[:-3]}", soxr.resample(samples, rate, SAMPLE_RATE)


def drascula(folder: Path) -> Iterator[Line]:
    for path in sorted((folder / "en").glob("*.ALS")):
        yield f"drascula-{path.stem}", sound(path.read_bytes())


class Unpacker:
    """RNC ProPack, method 1: Huffman-coded runs and matches, with raw bytes between the bits."""

    def __init__(self, packed: bytes):
        self.data, self.at = packed[18:] + bytes(8), 0
        self.size, self.blocks = int.from_bytes(packed[4:8], "big"), packed[17]
        self.bits, self.count = self.word(), 16

    def word(self) -> int:
        return self.data[self.at] | self.data[self.at + 1] << 8

    def read(self, n: int) -> int:
        value = self.bits & ((1 << n) - 1)
        self.bits >>= n
        self.count -= n
        if self.count < 16:
            self.at += 2
            self.bits |= self.word() << self.count
            self.count += 16
        return value

    def table(self) -> tuple[int, list[tuple[int, int]]]:
        """Return how many bits to look at, and for each value the code's length and meaning."""
        lengths = [self.read(4) for _ in range(self.read(5))]
        most = max(lengths, default=0)
        found, code = [(0, 0)] * (1 << most), 0
        for length in range(1, most + 1):
            for value in (v for v, n in enumerate(lengths) if n == length):
                mirrored = int(format(code, f"0{length}b")[::-1], 2)
                found[mirrored :: 1 << length] = [(length, value)] * (1 << (most - length))
                code += 1
            code <<= 1
        return most, found

    def huffman(self, table: tuple[int, list[tuple[int, int]]]) -> int:
        most, found = table
        length, value = found[self.bits & ((1 << most) - 1)]
        self.read(length)
        return 1 << (value - 1) | self.read(value - 1) if value >= 2 else value

    def raw(self, n: int) -> bytes:
        """Return `n` raw bytes, which lie before the word that was read ahead."""
        taken = self.data[self.at : self.at + n]
        self.at += n
        self.count -= 16
        self.bits = self.bits & ((1 << self.count) - 1) | self.word() << self.count
        self.count += 16
        return taken

    def unpack(self) -> bytes:
        out = bytearray()
        self.read(2)
        for _ in range(self.blocks):
            runs, distances, lengths = self.table(), self.table(), self.table()
            for left in range(self.read(16), 0, -1):
                if n := self.huffman(runs):
                    out += self.raw(n)
                if left > 1:
                    back = self.huffman(distances) + 1
                    for _ in range(self.huffman(lengths) + 2):
                        out.append(out[-back])
        if len(out) != self.size:
            raise ValueError(f"{len(out)} bytes of {self.size} came out: the archive is damaged")
        return bytes(out)


READERS = {"beneath-a-steel-sky": steel_sky, "flight-of-the-amazon-queen": amazon_queen,
           "drascula": drascula}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    labeller = Labeller()
    for package, read in READERS.items():
        short = package.split("-")[-1]
        found = read(unpacked(package) / "scummvm" / package)
        lines = [(n, x) for n, x in found if 0.5 < len(x) / SAMPLE_RATE < LONGEST_S]
        for number, at in enumerate(range(0, len(lines), SHARD)):
            path = CORPUS / "shards" / f"adventure-{short}-{number:03d}"
            if path.with_suffix(".jsonl").exists():
                continue
            part = lines[at : at + SHARD]
            texts = labeller.write([samples for _, samples in part])
            kept = [(n, x, t) for (n, x), t in zip(part, texts, strict=True) if t]
            rows: list[dict[str, object]] = [
                {"text": t, "engine": "adventure", "line": n} for n, _, t in kept
            ]
            write_shard(path, [to_int16(x) for _, x, _ in kept], rows)
            print(f"{path.name}: {len(kept)} of {len(part)} lines", flush=True)


if __name__ == "__main__":
    main()
