"""Finding out from its bytes what a file is, where its sound begins, and where another begins.

The first bytes say what a file is; its name is never asked. Tags, zeros and junk before the sound
are passed over, and recordings that were joined byte by byte are found by their first bytes.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import NamedTuple

from .mpeg import first_run
from .source import SCAN_BYTES, Reader

# First bytes -> kind, for libsndfile. Its other formats are rare, and random bytes look like them.
_MAGIC = {
    b"RIFF": "wav", b"RF64": "wav", b"BW64": "wav", b"RIFX": "wav", b"riff": "w64",
    b"FORM": "aiff", b".snd": "au", b"caff": "caf", b"fLaC": "flac", b"OggS": "ogg",
    b"NIST": "sphere",
}  # fmt: skip
# Kind -> demuxer of FFmpeg, always named so that it never guesses.
MEDIA = {
    "mov": "mov", "matroska": "matroska", "aac": "aac", "amr": "amr", "avi": "avi", "asf": "asf",
    "mpegts": "mpegts", "flv": "flv", "ac3": "ac3", "wavpack": "wv", "mpeg": "mpeg",
}  # fmt: skip
_MEDIA_MAGIC = {
    b"\x1aE\xdf\xa3": "matroska", b"#!AMR": "amr", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"FLV\x01": "flv", b"\x0b\x77": "ac3", b"wvpk": "wavpack", b"\0\0\x01\xba": "mpeg",
}  # fmt: skip
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof"}
# Files of other programs, in which something that looks like sound is not their sound.
_FOREIGN = re.compile(
    rb"PK\x03\x04|%PDF|\x89PNG|\xff\xd8\xff|GIF8|\x7fELF|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|SQLite"
)
# A recording that begins in the middle of a file: enough bytes that chance does not make them.
_BEGINS: dict[bytes, re.Pattern[bytes]] = {
    b"WAVE": re.compile(rb"(?:RIFF|RF64|RIFX|BW64)....WAVE[a-zA-Z0-9]{3}.", re.DOTALL),
    b"AIF": re.compile(rb"FORM....AIF[FC][A-Z]{4}", re.DOTALL),
    b".snd": re.compile(
        rb"\.snd\0\0......\0\0\0[\x01-\x1b]\0[\0-\5]..\0\0\0[\x01-\x40]", re.DOTALL
    ),
    b"caff": re.compile(rb"caff\0\x01\0.desc\0\0\0\0\0\0\0\x20", re.DOTALL),
    b"fLaC": re.compile(rb"fLaC[\0\x80]\0\0\x22"),
    b"OggS": re.compile(rb"OggS\0\x02.{21}[\x01-\xff]", re.DOTALL),
    b"\x1aE\xdf\xa3": re.compile(rb"\x1aE\xdf\xa3.{1,60}\x42\x82.(?:webm|matroska)", re.DOTALL),
    b"ftyp": re.compile(rb"\0\0\0[\x08-\xff]ftyp[a-zA-Z0-9 ]{4}", re.DOTALL),
}
_BACK = {b"WAVE": 8, b"AIF": 8, b"ftyp": 4}  # bytes between the start of a file and its mark
MOST_JUNK_BYTES, MOST_TAGS = 2**20, 10_000


class Start(NamedTuple):
    """The place where sound begins, its kind ("" if unknown), its bytes, and junk before it."""

    kind: str
    at: int
    head: bytes
    num_junk: int = 0


def find_start(reader: Reader, at: int = 0) -> Start:
    """Find the first recording at or after a place, behind tags, zeros and up to 1 MiB of junk."""
    at, head = skip_tags(reader, at)
    if kind := sniff(head):
        return Start(kind, at, head)
    if _FOREIGN.match(head) or head[257:262] == b"ustar":
        return Start("", at, head)
    data = reader.peek(at, MOST_JUNK_BYTES)
    found = next(_beginnings(data), len(data))
    if (mpeg := first_run(data[: found + 4096], len(data) + at == reader.end)) is not None:
        found = min(found, mpeg)
    if found == len(data):
        return Start("", at, head)
    there = reader.peek(at + found, 4096)
    return Start(sniff(there), at + found, there, found)


def skip_tags(reader: Reader, at: int) -> tuple[int, bytes]:
    """Return the first place behind ID3 and APE tags and zeros, and 4 kB from there."""
    for _ in range(MOST_TAGS):
        head = reader.peek(at, 4096)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = sum((bits & 127) << 7 * n for n, bits in enumerate(reversed(head[6:10])))
            at = at + 10 + size + (10 if head[5] & 0x10 else 0)
            if at > reader.end:  # a size that cannot be: the sound lies inside
                at -= size
        elif head[:8] == b"APETAGEX" and len(head) >= 32:
            at += 32 + int.from_bytes(head[12:16], "little")
        elif head[:3] == b"TAG" and reader.end - at >= 128:
            at += 128
        elif head[:1] != b"\0" or sniff(head):
            return at, head
        else:
            at += len(head) - len(head.lstrip(b"\0"))
            at -= min(at, 3) if at < reader.end else 0  # the zeros of a size or a start code
            head = reader.peek(at, 4096)
            if not sniff(head):
                at += len(head) - len(head.lstrip(b"\0"))
            return _behind_zeros(reader, at)
    return at, reader.peek(at, 4096)


def _behind_zeros(reader: Reader, at: int) -> tuple[int, bytes]:
    while (block := reader.peek(at, SCAN_BYTES)) and not block.strip(b"\0"):
        at += len(block)
    at += len(block) - len(block.lstrip(b"\0")) if block[:4096].strip(b"\0") == b"" else 0
    return at, reader.peek(at, 4096)


def sniff(head: bytes) -> str:
    """Return the kind of what begins with these bytes; "" if it is unknown."""
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WEBP", b"RMID"):
        return "avi" if head[8:12] == b"AVI " else ""
    if head[4:8] in _BOXES:
        return "mov"
    for magic, kind in _MEDIA_MAGIC.items():
        if head.startswith(magic):
            return kind
    if len(head) > 188 * 3 and all(head[n * 188] == 0x47 for n in range(4)):
        return "mpegts"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "aac"  # layer 0 is ADTS
    return _MAGIC.get(head[:4], "")


def kind_of_stream(head: bytes, whole: bool) -> str:
    """Return the kind of a stream that begins with these bytes, which may be raw samples ("").

    "foreign" is neither: a text, a picture, an archive. `whole` says that nothing follows.
    """
    if head[:3] == b"ID3":
        return "mp3"
    kind = sniff(head)
    if kind == "mp3" and first_run(head, whole) != 0:
        return ""
    if kind == "aac":
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) > 6 else 0
        return "aac" if size and head[size : size + 1] in (b"\xff", b"") else ""
    if kind in ("ac3", "mpeg"):  # two bytes, or mostly zeros: raw samples begin so
        return ""
    if kind or not head:
        return kind
    foreign = _FOREIGN.match(head) or head[257:262] == b"ustar" or _is_text(head[:256])
    return "foreign" if foreign else ""


def _is_text(head: bytes) -> bool:
    try:
        text = getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in text)


def _beginnings(data: bytes, start: int = 0) -> Iterator[int]:
    """Return the earliest place where a recording begins, if there is one."""
    places = []
    for mark, pattern in _BEGINS.items():
        at = data.find(mark, start)
        while at >= 0:
            if (begin := at - _BACK.get(mark, 0)) >= start and pattern.match(data, begin):
                places.append(begin)
                break
            at = data.find(mark, at + 1)
    yield from sorted(places)[:1]


def next_beginning(reader: Reader, start: int, mark: bytes = b"") -> int:
    """Return where the next recording begins (of one kind, if its mark is given), or the end.

    All of the bytes are read, but they are only searched.
    """
    for at, data in reader.blocks(start):
        if mark:
            places = (m.start() for m in _BEGINS[mark].finditer(data)) if mark in data else iter(())
        else:
            places = _beginnings(data)
        if (found := next(places, None)) is not None:
            return at + found
    return reader.end


def next_link(reader: Reader) -> int:
    """Return where the first link of an Ogg file ends: at a first page behind one that is none, or
    else behind the last page.
    """
    pages, inside, end = re.compile(rb"OggS\0([\0-\x07])"), False, 0
    for at, data in reader.blocks(0):
        for page in pages.finditer(data):
            first = page[1][0] & 2
            if first and inside:
                return at + page.start()
            inside = inside or not first
            table = page.start() + 27
            lengths = data[table : table + data[table - 1]] if table <= len(data) else b""
            end = max(end, at + table + len(lengths) + sum(lengths))
    return min(end or reader.end, reader.end)


def end_of_boxes(reader: Reader) -> int:
    """Return where the boxes of the first MP4 or MOV end; behind them another file may begin."""
    at, has_moov = 0, False
    while at + 8 <= reader.end:
        head = reader.peek(at, 16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if not re.fullmatch(rb"[ -~\xa9]{4}", name) or 0 < size < 8:
            return at
        if has_moov and name == b"ftyp":
            return at
        has_moov |= name == b"moov"
        at = at + size if size else reader.end
    return at if reader.end - at >= 8 else reader.end


def start_of_boxes(reader: Reader) -> int:
    """Return where the offsets of an MP4 or MOV count from: its start, or the first `ftyp` behind a
    box that was put before it.
    """
    at, places = 0, dict[bytes, int]()
    while at + 8 <= reader.end:
        head = reader.peek(at, 16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        places.setdefault(name, at)
        at += int.from_bytes(head[8:16], "big") if size == 1 else max(8, size)
        if size == 0:
            break
    shift = places.get(b"ftyp", 0)
    moov = reader.peek(places.get(b"moov", reader.end), MOST_JUNK_BYTES) if shift else b""
    tables = [table.end() + 8 for table in re.finditer(b"stco", moov)]
    if not tables or b"mdat" not in places:
        return 0
    first = min(int.from_bytes(moov[at : at + 4], "big") for at in tables)
    sound = places[b"mdat"] + 8
    return shift if abs(first + shift - sound) < abs(first - sound) else 0


def end_of_matroska(reader: Reader) -> int:
    """Return where the first Matroska or WebM ends, by its size or where another begins."""
    start, size = _ebml_size(reader, 4)
    start, size = _ebml_size(reader, start + (size or 0) + 4)
    if size is not None and start + size <= reader.end:
        return start + size
    return next_beginning(reader, 1, b"\x1aE\xdf\xa3")


def _ebml_size(reader: Reader, at: int) -> tuple[int, int | None]:
    """Return the place behind a size field and its value; None is unknown."""
    head = reader.peek(at, 8)
    length = 9 - head[0].bit_length() if head and head[0] else 1
    value = int.from_bytes(head[:length], "big") & ((1 << 7 * length) - 1)
    return at + length, None if value == (1 << 7 * length) - 1 else value


def num_unexplained(reader: Reader, at: int) -> int:
    """Count the bytes from there to the end that are neither tags nor zeros."""
    at, _ = skip_tags(reader, at)
    return max(0, reader.end - at)
