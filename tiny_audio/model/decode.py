"""Reading files as chunks of samples, for `audio.py`.

A file holds one recording after another, usually one. libsndfile reads wav, flac, mp3, ogg and
opus; PyAV, an extra, reads the rest (`media.py`). Both stop without a word in some files; so what
was read is compared with what the header announces and with what the bytes hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import soundfile

from .containers import (
    MEDIA,
    Start,
    end_of_boxes,
    end_of_matroska,
    find_start,
    next_beginning,
    next_link,
    num_unexplained,
    start_of_boxes,
)
from .errors import AudioError, MissingExtra, Reason
from .headers import Region, endian, find_region
from .media import open_media
from .mpeg import Run, runs
from .sndfile import SoundFile, promised_frames, why
from .source import BLOCK_VALUES, Chunk, DamageError, Decoded, Origin, Reader, open_reader

EXPECTED = "Expected wav, flac, mp3, ogg, opus, m4a, aac or webm"
MOST_LEFT = 0.1  # so much of a file may be no sound before it is refused
# Bytes of a sample where libsndfile can read without the header.
_WIDTHS = {
    "PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4,
    "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
MOST_IN_HEADER = 2**31  # bytes; 32 bits hold twice that, but not in every program
# Containers of libsndfile with codecs that only FFmpeg reads, and its name for them.
_FALLBACK = {"wav": "wav", "aiff": "aiff", "au": "au", "caf": "caf", "ogg": "ogg", "w64": "w64"}


@dataclass
class Part(Decoded):
    """One recording in a file: its bytes, and where they end, if `find_end` must look for it."""

    reader: Reader | None = None
    end: int = 0  # behind it another recording may begin
    find_end: Callable[[Reader], int] | None = None
    ends_with_reader: bool = False  # where they end is found while they are decoded


def open_file(origin: Origin, source: Any, stack: ExitStack, whole: bool = False) -> Decoded:
    """Open a path, the bytes of a file or a file object; `stack` closes it.

    Its `promised` is what the header of the first recording announces. With `whole` the bytes are
    searched for what follows that recording, and `promised` is None where anything does.
    """
    reader = open_reader(origin, source, stack)
    start = find_start(reader)
    if reader.failure:
        raise origin.error(reader.failure, "Open it again, in mode 'rb'", Reason.DAMAGED)
    if not start.kind:
        problem = f"not audio that can be read (starts with {start.head[:8]!r})"
        raise origin.error(problem, EXPECTED, Reason.NOT_AUDIO)
    first = _open_part(origin, reader, start, stack)
    if start.num_junk:
        origin.note(f"{start.num_junk:,} bytes before the sound are no sound", Reason.LEFT_OVER)
    promised = first.promised
    if whole and promised and num_unexplained(reader, start.at + _end_of(first)):
        promised = None
    chunks = _parts(origin, reader, first, start.at)
    return Decoded(chunks, first.rate, first.channels, promised)


def _end_of(part: Part) -> int:
    """Return where the bytes of a recording end, found without decoding it."""
    if part.reader and part.find_end:
        return part.find_end(part.reader)
    return _next_flac(part.reader) if part.reader and part.ends_with_reader else part.end


def _parts(origin: Origin, reader: Reader, part: Part, at: int) -> Iterator[Chunk]:
    """Yield the chunks of all recordings of a file, compared with what their headers announce."""
    done_s, stack, failed = 0.0, ExitStack(), ""
    with stack:
        while True:
            if part.find_end and part.reader:
                part.end = part.find_end(part.reader)
                part.reader.limit(part.end)
            read_s = 0.0
            try:
                for rate, block in part.chunks:
                    read_s += len(block) / rate
                    yield rate, block
            except DamageError as error:
                failed = str(error)
            if part.ends_with_reader and part.reader:
                part.end = part.reader.end
            _compare(origin, part, read_s, done_s, failed)
            done_s, failed, at = done_s + read_s, "", at + part.end
            stack.pop_all().close()
            if at >= reader.end:
                return
            found = _open_next(origin, reader, at, done_s, stack)
            if found is None:
                return
            part, at = found


def _compare(origin: Origin, part: Part, read_s: float, done_s: float, failed: str) -> None:
    """Note what is missing of a recording that has been read."""
    missing_s = (part.promised or 0) / part.rate - read_s
    if failed:
        origin.lose(failed, missing_s, damaged=True)
    elif missing_s > 0.5 or missing_s > max(0.05, 0.1 * read_s):
        whole_s = done_s + read_s + missing_s
        origin.lose(f"cut off: its header announces {whole_s:.2f} s", missing_s)
    elif missing_s > 0.05:
        origin.lose(f"{missing_s:.2f} s shorter than its header announces", missing_s)


def _open_next(
    origin: Origin, reader: Reader, at: int, done_s: float, stack: ExitStack
) -> tuple[Part, int] | None:
    """Open the recording that begins at or behind a place; note if there is none."""
    if not num_unexplained(reader, at):
        return None
    start, part, why = find_start(reader, at), None, ""
    try:
        part = _open_part(origin, reader, start, stack) if start.kind else None
    except (AudioError, MissingExtra) as error:
        why = f" ({error})"
    left = start.num_junk if part else num_unexplained(reader, at)
    text = f"{left:,} bytes from {done_s:.2f} s on are no sound that can be read{why}"
    if left > MOST_LEFT * reader.end:
        origin.lose(text, left / max(1, at) * done_s)
    elif left:
        origin.note(text, Reason.LEFT_OVER)
    if part is None:
        return None
    origin.note(f"another recording begins at {done_s:.2f} s: both are read", Reason.JOINED)
    return part, start.at


def _open_part(origin: Origin, reader: Reader, start: Start, stack: ExitStack) -> Part:
    """Open the recording at a place; what follows it is found when it is read."""
    part = reader.part(start.at)
    if start.kind == "mp3":
        return _open_mpeg(origin, part, start, stack)
    if start.kind in MEDIA:
        return _open_media_part(origin, part, start.kind, stack)
    return _open_sound(origin, part, start.kind, stack)


def _open_media_part(origin: Origin, reader: Reader, kind: str, stack: ExitStack) -> Part:
    ends = {"mov": end_of_boxes, "matroska": end_of_matroska}
    end = ends[kind](reader) if kind in ends else reader.end
    reader.limit(end)
    if kind == "mov" and (shift := start_of_boxes(reader)):
        reader = reader.part(shift)
    made = open_media(origin, reader, kind, stack)
    return Part(made.chunks, made.rate, made.channels, made.promised, reader, end)


def _next_flac(reader: Reader) -> int:
    return next_beginning(reader, 1, b"fLaC")


def _open_sound(origin: Origin, reader: Reader, kind: str, stack: ExitStack) -> Part:
    """Open what libsndfile reads; what it does not know of these containers, FFmpeg may."""
    _check_track(origin)
    head, end = reader.peek(0, 4096), reader.end
    if head[:4] == b"BW64":
        reader.patches[0] = b"RF64"
    region = find_region(kind, reader)
    if region:
        end = region.next
        reader.limit(region.end)
        reader.patches[region.field.at] = region.true_size
    try:
        file = stack.enter_context(SoundFile(reader))
    except soundfile.LibsndfileError as error:
        if kind in _FALLBACK and "encoding" in why(error):
            return _open_media_part(origin, reader, _FALLBACK[kind], stack)
        problem = f"{kind} that cannot be read ({why(error)})"
        raise origin.error(problem, "Record or export it again", Reason.DAMAGED) from error
    if region:
        file = _without_header(reader, file, region, kind, stack)
        _note_size(origin, file, region)
    promised = promised_frames(file, head) if file.format != "RAW" else file.frames
    if region and region.announced and region.announced > region.end - region.start:
        promised = file.frames * region.announced // max(1, region.end - region.start)
    chunks = _file_chunks(origin, file, reader, kind)
    found_late = kind == "flac" and promised is not None
    find_end = None if found_late else {"flac": _next_flac, "ogg": next_link}.get(kind)
    shape = file.samplerate, file.channels
    return Part(chunks, *shape, promised, reader, end, find_end, found_late)


def _check_track(origin: Origin) -> None:
    if origin.track not in (None, 1):
        problem = f"there is no track {origin.track}: it has 1 audio track"
        raise origin.error(problem, "Leave track out", Reason.TRACK)


def _note_size(origin: Origin, file: SoundFile, region: Region) -> None:
    """Note that the header announces less than there is."""
    num_bytes = region.end - region.start
    if region.announced is None or region.announced >= num_bytes:
        return
    there_s = file.frames / file.samplerate
    announced_s = there_s * region.announced / num_bytes
    text = f"its header announces {announced_s:.2f} s, but {there_s:.2f} s are there"
    origin.note(f"{text}: all of it is read", Reason.HEADER)


def _without_header(
    reader: Reader, file: SoundFile, region: Region, kind: str, stack: ExitStack
) -> SoundFile:
    """Read the same sound without its header: it is longer than the header's field can say."""
    frame = _WIDTHS.get(file.subtype, 0) * file.channels
    if region.end - region.start < MOST_IN_HEADER or not frame:
        return file
    raw = reader.part(region.start, region.end - (region.end - region.start) % frame)
    shape = (file.samplerate, file.channels, file.subtype, endian(kind, reader))
    return stack.enter_context(SoundFile(raw, "r", *shape, format="RAW"))


def _file_chunks(origin: Origin, file: SoundFile, reader: Reader, kind: str) -> Iterator[Chunk]:
    size = max(1, BLOCK_VALUES // file.channels)
    num_left = file.frames if kind == "flac" else 2**62  # what follows the last frame is an error
    try:
        while len(block := file.read(min(size, num_left), dtype="float32", always_2d=True)):
            num_left -= len(block)
            yield file.samplerate, block
    except soundfile.LibsndfileError as error:
        raise DamageError(reader.failure or f"damaged ({why(error)})") from error
    if kind == "flac" and not num_left:
        reader.limit(next_beginning(reader, max(1, reader.at - 2**16), b"fLaC"))
        if num_unexplained(reader, reader.at):
            yield from _flac_beyond(origin, file, reader)
    if kind == "ogg":
        tail = reader.peek(max(0, reader.end - 2**17), 2**17)
        pages = re.findall(rb"OggS\0(.)", tail, re.DOTALL)
        if pages and not pages[-1][0] & 4:  # 4 ends a stream
            origin.note("no end mark: it may have been cut off", Reason.DAMAGED)
    if reader.failure:
        raise DamageError(reader.failure)


def _flac_beyond(origin: Origin, before: SoundFile, reader: Reader) -> Iterator[Chunk]:
    """Read frames behind the number that the header announces, again and without that number."""
    reader.patches[21] = bytes([reader.peek(21, 1)[0] & 0xF0, 0, 0, 0, 0])
    reader.seek(0)
    num_skipped, num_more = before.frames, 0
    with SoundFile(reader) as file:
        size = max(1, BLOCK_VALUES // file.channels)
        try:
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                fresh = block[num_skipped:]
                num_skipped = max(0, num_skipped - len(block))
                num_more += len(fresh)
                if len(fresh):
                    yield file.samplerate, fresh
        except soundfile.LibsndfileError as error:
            text = f"the bytes behind its sound cannot be read ({why(error)})"
            origin.note(text, Reason.LEFT_OVER)
    if num_more:
        announced, there = before.frames, before.frames + num_more
        rate = before.samplerate
        text = f"its header announces {announced / rate:.2f} s, but {there / rate:.2f} s are there"
        origin.note(f"{text}: all of it is read", Reason.HEADER)


def _open_mpeg(origin: Origin, reader: Reader, start: Start, stack: ExitStack) -> Part:
    """Open an mp3. Its frames are followed once it is read, and each run is decoded by itself."""
    _check_track(origin)
    end = _trusted_mp3_end(reader, start.head)
    try:
        file = stack.enter_context(SoundFile(reader))
    except soundfile.LibsndfileError as error:
        problem = f"mp3 that cannot be read ({why(error)})"
        raise origin.error(problem, "Record or export it again", Reason.DAMAGED) from error
    promised = promised_frames(file, start.head) if end else None
    part = Part(iter(()), file.samplerate, file.channels, promised, reader, end or reader.end)
    part.chunks = _mpeg_chunks(origin, part, file, reader)
    return part


def _mpeg_chunks(origin: Origin, part: Part, file: SoundFile, reader: Reader) -> Iterator[Chunk]:
    """Yield the chunks of all runs of frames, and note what lies between two runs and is no tag."""
    found = runs(reader, 0)
    run = next(found, None)
    if run is None or _fills(run, reader):
        part.end = reader.end
        yield from _file_chunks(origin, file, reader, "mp3")
        return
    part.promised, part.end, done_s = None, run.start, 0.0
    before: Run | None = None
    while run is not None:
        _note_between(origin, reader, before, run, done_s)
        with ExitStack() as stack:
            one = _open_run(origin, reader.part(run.start, run.end), stack)
            read_s = 0.0
            for rate, block in one.chunks:
                read_s += len(block) / rate
                yield rate, block
            _compare(origin, one, read_s, done_s, "")
        done_s, part.end, before, run = done_s + read_s, run.end, run, next(found, None)


def _fills(run: Run, reader: Reader) -> bool:
    """Tell whether one run of frames is the whole file, but for tags at its end."""
    tail = reader.end - run.end
    return run.start == 0 and tail < 4096 and not num_unexplained(reader, run.end)


def _open_run(origin: Origin, reader: Reader, stack: ExitStack) -> Part:
    trusted = _trusted_mp3_end(reader, reader.peek(0, 4096))
    try:
        file = stack.enter_context(SoundFile(reader))
    except soundfile.LibsndfileError as error:
        raise DamageError(f"damaged ({why(error)})") from error
    promised = file.frames if trusted and file.frames < 2**62 else None
    chunks = _file_chunks(origin, file, reader, "mp3")
    return Part(chunks, file.samplerate, file.channels, promised, reader)


def _note_between(
    origin: Origin, reader: Reader, before: Run | None, run: Run, at_s: float
) -> None:
    """Note what lies between two runs of frames; frames of the same format were lost there."""
    num_bytes = run.start - (before.end if before else 0)
    if before is None or not num_bytes:
        return
    if not num_unexplained(reader.part(before.end, run.start), 0):
        return
    text = f"{num_bytes:,} bytes at {at_s:.2f} s are no frames that can be read"
    if before.shape == run.shape:
        origin.lose(text, before.seconds * num_bytes / (before.end - before.start))
    else:
        origin.note(text, Reason.LEFT_OVER)


def _trusted_mp3_end(reader: Reader, head: bytes) -> int | None:
    """Return where the frames of an mp3 end by its Xing header, or None where that cannot be right
    or is not stated. Then the decoder may not use its length.

    Without the header libsndfile guesses from the first frames; joined files keep the first header.
    """
    at = max(head.find(b"Xing"), head.find(b"Info"))
    field_at = at + 12 if at >= 0 and head[at + 7 : at + 8] and head[at + 7] & 3 == 3 else -1
    num_bytes = int.from_bytes(head[field_at : field_at + 4], "big") if field_at >= 0 else 0
    known = at >= 0 and (field_at < 0 or reader.end - num_bytes < 4096)
    if not known:
        reader.ignore_length(hidden=at if at >= 0 else None)
    return (num_bytes or reader.end) if known else None
