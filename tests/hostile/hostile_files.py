"""500 malformed or hostile audio files, made from a seed and a few tiny good ones.

A name starts with what must happen:
`error-`, `decode-`, or `any-` (either an error with a cure or a sound decode is right).
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from sounds import encode, encode_media

NUM_FILES = 500
RATE = 16_000
TONE = (0.4 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)).astype(np.float32)
Case = tuple[str, bytes]

SOUNDFILE_FORMATS = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "u8.wav": ("WAV", "PCM_U8"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "pcm32.wav": ("WAV", "PCM_32"),
    "float.wav": ("WAV", "FLOAT"),
    "double.wav": ("WAV", "DOUBLE"),
    "ulaw.wav": ("WAV", "ULAW"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "ex.wav": ("WAVEX", "PCM_16"),
    "rf64.wav": ("RF64", "PCM_16"),
    "w64.w64": ("W64", "PCM_16"),
    "pcm.aiff": ("AIFF", "PCM_16"),
    "pcm.au": ("AU", "PCM_16"),
    "pcm.caf": ("CAF", "PCM_16"),
    "pcm.sph": ("NIST", "PCM_16"),
    "flac.flac": ("FLAC", "PCM_16"),
    "mp3.mp3": ("MP3", "MPEG_LAYER_III"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
}


def good_files() -> dict[str, bytes]:
    """One tiny good file of each kind."""
    good = {name: encode(TONE, RATE, *kind) for name, kind in SOUNDFILE_FORMATS.items()}
    good["aac.m4a"] = encode_media(TONE, RATE, "mp4", "aac")
    good["aac.aac"] = encode_media(TONE, RATE, "adts", "aac")
    good["opus.webm"] = encode_media(TONE, RATE, "webm", "libopus")
    return good


def wav(
    data: bytes, *, code: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16,
    align: int | None = None, data_size: int | None = None, riff_size: int | None = None,
    extra: bytes = b"", before: bytes = b"",
) -> bytes:  # fmt: skip
    """A WAV with any header one likes."""
    align = channels * bits // 8 if align is None else align
    layout = (code, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    fmt = struct.pack("<HHIIHH", *layout) + extra
    size = len(data) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + before
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def wav_cases() -> Iterator[Case]:
    """Headers that lie, and values that are no audio."""
    pcm = (TONE * 32767).astype("<i2").tobytes()
    yield "error-empty.wav", b""
    yield "error-header-only.wav", wav(b"")
    yield "error-1hz-200h.wav", wav(pcm, rate=1, data_size=200 * 3600 * 2)
    yield "error-0hz.wav", wav(pcm, rate=0)
    yield "error-4ghz.wav", wav(pcm, rate=2**32 - 1)
    yield "error-999hz.wav", wav(pcm, rate=999)
    yield "error-0-channels.wav", wav(pcm, channels=0, align=2)
    yield "decode-64-channels.wav", wav(pcm * 4, channels=64)
    yield "error-65-channels.wav", wav(pcm * 65, channels=65)
    yield "error-1000-channels.wav", wav(pcm * 4, channels=1000)
    yield "error-65535-channels.wav", wav(pcm * 33, channels=65535)
    yield "decode-192khz.wav", wav(pcm, rate=192_000)
    yield "decode-8bit.wav", wav(bytes(range(256)) * 8, bits=8)
    yield "decode-silence.wav", wav(bytes(3200))
    yield "error-promises-1h.wav", wav(pcm, data_size=3600 * RATE * 2)
    yield "error-promises-30h.wav", wav(pcm, data_size=0x7FFF0000, rate=8000)
    for size in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFF000):
        yield f"decode-unknown-size-{size:x}.wav", wav(pcm, data_size=size, riff_size=size)
    for bits in (0, 1, 7, 12, 48, 65535):
        yield f"any-{bits}-bits.wav", wav(pcm, bits=bits, align=2)
    for code in (0, 2, 6, 7, 17, 49, 80, 85, 255, 0x161, 0xFFFE, 0xFFFF):
        for align in (0, 1, 65535):
            yield f"any-code{code}-align{align}.wav", wav(pcm, code=code, align=align, bits=4)
    for spb in (0, 1, 65535):
        extra = struct.pack("<HHH", 4, spb, 65535) + bytes(28)
        yield f"any-ms-adpcm-spb{spb}.wav", wav(pcm, code=2, bits=4, align=256, extra=extra)
        extra = struct.pack("<HH", 2, spb)
        yield f"any-ima-spb{spb}.wav", wav(pcm, code=17, bits=4, align=256, extra=extra)
    many = b"JUNK\x00\x00\x00\x00" * 50_000
    yield "any-50000-chunks.wav", wav(pcm, before=many)
    nested = b"LIST\xff\xff\xff\x7fINFO" * 1000
    yield "any-nested-lists.wav", wav(pcm, before=nested)
    yield "any-two-formats.wav", wav(pcm, before=wav(pcm, channels=9)[12:])
    yield "error-only-riff.wav", b"RIFF\xff\xff\xff\xffWAVE"
    for name, value in (("nan", np.nan), ("inf", np.inf), ("-inf", -np.inf), ("1e38", 1e38)):
        spoiled = TONE.copy()
        spoiled[len(TONE) // 2] = value
        for container in ("WAV", "AIFF", "AU", "CAF"):
            yield f"error-{name}-{container}.wav", encode(spoiled, RATE, container, "FLOAT")
    yield "error-1e300.wav", encode(TONE.astype("f8") * 1e300, RATE, "WAV", "DOUBLE")
    yield "error-unscaled.wav", encode(TONE * 32767, RATE, "WAV", "FLOAT")


def foreign_cases(good: dict[str, bytes]) -> Iterator[Case]:
    """Other files called audio, and audio with a wrong name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("zeros", bytes(10_000_000))
    png = b"\x89PNG\r\n\x1a\n" + zlib.compress(bytes(1000))
    script = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    for name, data in {
        "zip": archive.getvalue(), "png": png, "html": b"<!DOCTYPE html><title>404</title>" * 40,
        "text": b"hello world\n" * 100, "json": b'{"error": "not found"}', "pdf": b"%PDF-1.7\n" * 9,
        "playlist": script, "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n", "pickle": b"\x80\x04K\x01.",
        "npy": b"\x93NUMPY\x01\x00", "elf": b"\x7fELF" + bytes(99), "one-byte": b"R",
        "zeros": bytes(5000), "ones": b"\xff" * 5000, "newlines": b"\n" * 5000,
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }.items():  # fmt: skip
        for extension in ("wav", "mp3", "raw"):
            yield f"error-{name}.{extension}", data
    for extension, name in zip(
        ("raw", "vox", "gsm", "mp3", "wav", "txt", "flac", "ogg", "pkl", "m3u8"), good, strict=False
    ):
        yield f"decode-{name.replace('.', '-')}-called.{extension}", good[name]


def flac_cases(good: bytes) -> Iterator[Case]:
    """STREAMINFO with absurd contents, and hours in a few kilobytes."""

    def total(data: bytes, num_samples: int) -> bytes:
        top = data[21] & 0xF0 | num_samples >> 32
        return data[:21] + bytes([top]) + struct.pack(">I", num_samples & 0xFFFFFFFF) + data[26:]

    yield "decode-unknown-total.flac", total(good, 0)
    yield "error-absurd-total.flac", total(good, 2**36 - 1)
    yield "error-twice-total.flac", total(good, 2 * len(TONE))
    yield "error-header-only.flac", good[:42]
    for blocks in (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"):
        yield f"any-blocksize-{blocks.hex()}.flac", good[:8] + blocks + good[12:]
    for kind in (1, 3, 4, 6, 126):
        block = bytes([kind]) + b"\xff\xff\xff"
        yield f"any-giant-metadata-{kind}.flac", good[:42] + block + good[42:]
    hours = encode(np.zeros(3 * 3600 * 8000, np.int16), 8000, "FLAC", "PCM_16")
    yield "error-3-hours.flac", hours
    yield "error-3-hours-unknown-total.flac", total(hours, 0)
    yield "error-3-hours-called-1s.flac", total(hours[: len(hours) // 3 * 2], 3 * 3600 * 8000)


def ogg_page(body: list[bytes], serial: int, number: int, granule: int, flags: int) -> bytes:
    """One Ogg page with a right checksum."""
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, number, 0, len(body))
    page = bytearray(head + bytes(map(len, body)) + b"".join(body))
    page[22:26] = struct.pack("<I", ogg_crc(page))
    return bytes(page)


def _crc_row(value: int) -> int:
    for _ in range(8):
        value = value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)
    return value & 0xFFFFFFFF


CRC_ROWS = [_crc_row(at << 24) for at in range(256)]


def ogg_crc(data: bytes | bytearray) -> int:
    """The checksum of Ogg: CRC-32 without reflection, starting from 0."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ CRC_ROWS[crc >> 24 ^ byte]
    return crc


def opus_bomb(seconds: int, claimed: int | None = None) -> bytes:
    """Hours of Opus in one-byte packets of 60 ms; `claimed` is the last granule position."""
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 4) + b"none" + struct.pack("<I", 0)
    pages = [ogg_page([head], 7, 0, 0, 2), ogg_page([tags], 7, 1, 0, 0)]
    num_pages = round(seconds / (250 * 0.06))
    for at in range(num_pages):
        last = at == num_pages - 1
        granule = (at + 1) * 250 * 2880
        granule = claimed if last and claimed is not None else granule
        pages.append(ogg_page([b"\x18"] * 250, 7, at + 2, granule, 4 if last else 0))
    return b"".join(pages)


def ogg_cases(good: bytes, other: bytes) -> Iterator[Case]:
    """Pages that lie about time, order and checksums."""
    yield "error-opus-5-hours.opus", opus_bomb(5 * 3600)
    yield "any-opus-hour-called-1s.opus", opus_bomb(3600, 48_000)
    yield "any-opus-granule-negative.opus", opus_bomb(30, -5)
    yield "any-opus-granule-minus-1.opus", opus_bomb(30, -1)
    yield "any-opus-granule-max.opus", opus_bomb(30, 2**63 - 1)
    yield "decode-opus-30s.opus", opus_bomb(30)
    yield "decode-joined.ogg", good + other
    yield "any-no-checksum.ogg", good[:22] + bytes(4) + good[26:]
    yield "error-first-page-only.ogg", good[:58]
    yield "any-page-garbage.ogg", good[: len(good) // 2] + b"OggS" * 500 + good[len(good) // 2 :]


def mp3_cases(good: bytes) -> Iterator[Case]:
    """Tags, junk, and length headers that do not fit."""
    tag = b"ID3\x04\x00\x00"
    yield "decode-id3.mp3", tag + b"\x00\x00\x08\x00" + bytes(1024) + good
    yield "any-giant-id3.mp3", tag + b"\x7f\x7f\x7f\x7f" + good
    yield "any-2000-id3.mp3", (tag + b"\x00\x00\x00\x00") * 2000 + good
    yield "any-junk-before.mp3", b"\xff\xfb\x90\x64" + bytes(3000) + good
    yield "any-junk-after.mp3", good + random.Random(1).randbytes(5000)
    yield "decode-id3v1.mp3", good + b"TAG" + b"x" * 125
    yield "decode-joined.mp3", good + good
    at = good.index(b"Xing") + 8
    for frames in (0, 1, 10**6, 2**32 - 1):
        changed = good[:at] + struct.pack(">I", frames) + good[at + 4 :]
        yield f"any-xing-{frames}-frames.mp3", changed
    for flags in (0, 1, 2, 255):
        yield f"any-xing-flags{flags}.mp3", good[: at - 1] + bytes([flags]) + good[at:]


def media_cases(mp4: bytes, aac: bytes, webm: bytes) -> Iterator[Case]:
    """Boxes in boxes, tables that promise millions, floats that are no rate."""
    deep = b""
    for _ in range(3000):
        deep = struct.pack(">I", len(deep) + 8) + b"moov" + deep
    yield "error-deep-boxes.m4a", mp4[:28] + deep
    for box in (b"stsz", b"stts", b"stsc", b"stco", b"elst", b"mvhd", b"mdhd", b"stsd", b"esds"):
        for offset in (4, 8, 12, 16):
            at = mp4.index(box) + offset
            yield f"any-{box.decode()}-{offset}.m4a", mp4[:at] + b"\x7f\xff\xff\xff" + mp4[at + 4 :]
        at = mp4.index(box) - 4
        yield f"any-{box.decode()}-giant.m4a", mp4[:at] + b"\xff\xff\xff\xff" + mp4[at + 4 :]
    at = webm.index(b"\xb5\x88") + 2 if b"\xb5\x88" in webm else 100
    for rate in (0.0, -1.0, 1e-9, 1e300, float("nan"), float("inf"), 1.0):
        yield f"any-rate-{rate}.webm", webm[:at] + struct.pack(">d", rate) + webm[at + 8 :]
    yield (
        "error-deep-ebml.webm",
        webm[:40] + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * 5000,
    )
    yield "error-header-only.webm", webm[:40]
    yield "error-header-only.m4a", mp4[:28]
    yield "any-aac-many-syncs.aac", b"\xff\xf1\x60\x40\x01\x1f\xfc" * 3000
    yield "any-aac-changes-rate.aac", aac + encode_media(TONE, 44_100, "adts", "aac")


def other_header_cases(good: dict[str, bytes]) -> Iterator[Case]:
    """Rates and sizes of AIFF, AU, CAF, W64 and RF64 that cannot be."""
    aiff, caf, au = good["pcm.aiff"], good["pcm.caf"], good["pcm.au"]
    at = aiff.index(b"COMM") + 16  # 80-bit float
    for name, rate in {
        "inf": b"\x7f\xff" + bytes(8),
        "zero": bytes(10),
        "nan": b"\xff" * 10,
    }.items():
        yield f"any-rate-{name}.aiff", aiff[:at] + rate + aiff[at + 10 :]
    at = caf.index(b"desc") + 12
    for value in (0.0, -8000.0, 1e300, float("nan"), float("inf")):
        yield f"error-rate-{value}.caf", caf[:at] + struct.pack(">d", value) + caf[at + 8 :]
    for offset in (4, 8, 12, 16, 20):
        yield f"any-au-{offset}.au", au[:offset] + b"\x7f\xff\xff\xff" + au[offset + 4 :]
    for name in ("w64.w64", "rf64.wav"):
        for offset in range(12, 72, 8):
            data = good[name]
            yield f"any-{offset}-{name}", data[:offset] + b"\xff" * 8 + data[offset + 8 :]


def mutate(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One random injury."""
    at, size = chance.randrange(len(data)), chance.choice((1, 4, 16, 256))
    spoiled = bytearray(data)

    def flips(limit: int) -> bytes:
        for _ in range(chance.choice((1, 2, 8, 32))):
            spoiled[chance.randrange(min(limit, len(data)))] ^= 1 << chance.randrange(8)
        return bytes(spoiled)

    injuries: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[:at],
        "cut-head": lambda: data[: chance.randrange(min(128, len(data)))],
        "flip": lambda: flips(len(data)),
        "flip-head": lambda: flips(96),
        "zero": lambda: data[:at] + bytes(size) + data[at + size :],
        "ones": lambda: data[:at] + b"\xff" * size + data[at + size :],
        "insert": lambda: data[:at] + chance.randbytes(size) + data[at:],
        "drop": lambda: data[:at] + data[at + size :],
        "repeat": lambda: data[:at] + data[at : at + size] * 50 + data[at + size :],
        "reverse": lambda: data[:at] + data[at:][::-1],
    }
    name = chance.choice(list(injuries))
    return name, injuries[name]()


def hostile_files(num_files: int = NUM_FILES, seed: int = 0) -> Iterator[Case]:
    """Yield (name, contents): every special case, then random injuries up to `num_files`."""
    good, chance = good_files(), random.Random(seed)
    num_made = 0
    for cases in (
        ((f"decode-good-{name}", data) for name, data in good.items()),
        wav_cases(),
        foreign_cases(good),
        flac_cases(good["flac.flac"]),
        ogg_cases(good["opus.opus"], good["vorbis.ogg"]),
        mp3_cases(good["mp3.mp3"]),
        media_cases(good["aac.m4a"], good["aac.aac"], good["opus.webm"]),
        other_header_cases(good),
    ):
        for name, data in cases:
            yield name, data
            num_made += 1
    names = list(good)
    for number in range(num_made, num_files):
        name = names[number % len(names)]
        injury, data = mutate(good[name], chance)
        yield f"any-{number}-{injury}-{name}", data
