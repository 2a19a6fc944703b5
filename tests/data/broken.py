"""A manifest of good clips among broken ones, with what must become of every line."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sounds import encode

RATE = 16_000
GOOD = "good"


def tone(seconds: float = 0.5, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    """float32 samples of a tone."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def encoded(
    samples: np.ndarray, container: str = "FLAC", subtype: str = "PCM_16", rate: int = RATE
) -> bytes:
    """The bytes of a file."""
    return encode(samples, rate, container, subtype)


def wav_header(rate: int, num_bytes: int) -> bytes:
    """44 bytes that announce 16-bit mono."""
    layout = struct.pack("<HHIIHH", 1, 1, rate, rate * 2 & 0xFFFFFFFF, 2, 16)
    head = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", num_bytes)
    return b"RIFF" + struct.pack("<I", len(head) + num_bytes) + head


def noise(seconds: float) -> np.ndarray:
    """Samples that do not compress, so that a cut falls in their middle."""
    values = np.random.default_rng(0).uniform(-0.3, 0.3, round(seconds * RATE))
    return values.astype(np.float32)


def write_clips(folder: Path) -> None:
    """The audio files, sound and unsound."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    flac = encoded(noise(1.0))
    damaged = bytearray(flac)
    damaged[len(flac) // 2 : len(flac) // 2 + 2000] = bytes(2000)
    with_nan = noise(0.5)
    with_nan[4000] = np.nan
    stereo = np.stack([tone(), tone(hertz=220)], axis=1)
    files = {
        "tone.flac": encoded(tone()),
        "copy.flac": encoded(tone()),
        "stereo 44k é.wav": encoded(stereo, "WAV", rate=44_100),
        "noise.opus": encoded(noise(1.0), "OGG", "OPUS"),
        "silence.wav": encoded(np.zeros(8000, np.float32), "WAV"),
        "nan.wav": encoded(with_nan, "WAV", "FLOAT"),
        "loud.wav": encoded(1000 * tone(), "WAV", "FLOAT"),
        "short.wav": encoded(tone(0.01), "WAV"),
        "long.flac": encoded(np.zeros(3 * 3600 * 1000, np.int16), rate=1000),
        "empty.wav": b"",
        "letter.wav": b"Dear listener,\n" * 50,
        "header.wav": wav_header(RATE, 0),
        "rate.wav": wav_header(2_000_000, 2_000_000) + bytes(2_000_000),
        "slow.wav": wav_header(10, 200) + bytes(200),
        "cut.flac": flac[: len(flac) // 2],
        "damaged.flac": bytes(damaged),
        "cut.opus": encoded(noise(1.0), "OGG", "OPUS")[:90],
    }
    for name, data in files.items():
        (clips / name).write_bytes(data)
    (clips / "folder.wav").mkdir()
    (folder.parent / "outside.flac").write_bytes(encoded(tone(hertz=300)))


def _line(audio: Any = "clips/tone.flac", text: Any = "hello", **more: Any) -> bytes:
    return json.dumps({"audio": audio, "text": text, **more}).encode()


# Line -> what becomes of it: good, the reason it is dropped for when it is read, or, after
# "samples: ", the reason that decoding gives.
LINES: list[tuple[bytes, str]] = [
    (b"\xef\xbb\xbf" + _line(text="first", speaker="ann"), GOOD),
    (_line("clips/gone.wav"), "no such file"),
    (_line("clips/silence.wav", ""), "empty text"),
    (_line("clips/silence.wav", " \t\u00a0"), "empty text"),
    (_line("clips/silence.wav", "\x00\x07\u200b"), "empty text"),
    (_line("clips/silence.wav", 7), "text is not a string"),
    (_line("clips/silence.wav", ["a"]), "text is not a string"),
    (_line("clips/silence.wav", None), "no text"),
    (b'{"audio": "clips/silence.wav"}', "no text"),
    (b'{"text": "no audio here"}', "no audio"),
    (_line(12), "audio is not a string"),
    (_line({"path": "clips/tone.flac"}), "audio is not a string"),
    (b'{"audio": "clips/silence.wav", "text": "caf\xe9"}', "not UTF-8"),
    (_line().decode().encode("utf-16"), "not UTF-8"),
    (b"{not json", "not a JSON object"),
    (b"[" * 100_000, "not a JSON object"),
    (b'{"text": ' + b"9" * 5000 + b"}", "not a JSON object"),
    (b'["clips/tone.flac", "hello"]', "not a JSON object"),
    (b'"hello"', "not a JSON object"),
    (b"", ""),
    (_line("clips/silence.wav", "silence is sound"), GOOD),
    (_line("clips/nan.wav", "not a number"), "samples: NaN or Inf in the samples"),
    (_line("clips/loud.wav", "no scale"), "samples: samples beyond full scale"),
    (_line("clips/short.wav"), "shorter than 0.1 s"),
    (_line("clips/long.flac"), "longer than 30 s"),
    (_line("clips/tone.flac", "first"), "duplicate"),
    (_line("clips/copy.flac", " first "), "duplicate"),
    (_line("clips/copy.flac", "another text"), GOOD),
    (_line("clips/empty.wav"), "0 bytes"),
    (_line("clips/letter.wav"), "not audio"),
    (_line("clips/header.wav"), "no samples"),
    (_line("clips/cut.flac", "cut"), "samples: damaged"),
    (_line("clips/damaged.flac", "damaged"), "samples: damaged"),
    (_line("clips/cut.opus"), "damaged"),
    (_line("clips/folder.wav"), "not a file"),
    (_line(""), "not a file"),
    (_line("https://example.com/a.wav"), "no such file"),
    (_line("clips/" + "x" * 300 + ".wav"), "cannot be opened"),
    (_line("clips/tone\x00.flac"), "cannot be opened"),
    (_line("clips/tone\ud800.flac"), "cannot be opened"),
    (_line("clips/rate.wav"), "impossible sampling rate"),
    (_line("clips/slow.wav"), "impossible sampling rate"),
    (_line("clips/silence.wav", "speaker", speaker=["ann"]), "speaker is not a string"),
    (_line("clips/silence.wav", "speaker", speaker=True), "speaker is not a string"),
    (_line("clips/silence.wav", "speaker", speaker=17), GOOD),
    (_line("clips/silence.wav", "prompt", prompt=3), "prompt is not a string"),
    (_line("../outside.flac", "outside"), GOOD),
    (_line("clips/stereo 44k é.wav", "stereo"), GOOD),
    (_line("clips/noise.opus", "stretch", start=0.25, end=0.75), GOOD),
    (
        _line("clips/noise.opus", "stretch", start=0.25),
        "no stretch of seconds (start and end, or offset and duration)",
    ),
    (
        _line("clips/noise.opus", "stretch", start=2, end=1),
        "no stretch of seconds (start and end, or offset and duration)",
    ),
    (_line("clips/noise.opus", "stretch", start=0.5, end=9), "ends before its stretch"),
    (_line("clips/noise.opus", "last \ud800 line\u2028goes on"), GOOD),
]


@dataclass(frozen=True)
class Broken:
    """The manifest, and by line number: what is good, dropped when read, refused when decoded."""

    path: Path
    good: list[int]
    dropped: dict[str, list[str]]
    undecodable: dict[int, str]


def broken_manifest(folder: Path) -> Broken:
    """Write clips and manifest into a new folder; one file goes beside it."""
    write_clips(folder)
    path = folder / "train.jsonl"
    path.write_bytes(b"\n".join(line for line, _ in LINES))
    broken = Broken(path, [], {}, {})
    for number, (_, verdict) in enumerate(LINES, 1):
        if verdict == GOOD:
            broken.good.append(number)
        elif verdict.startswith("samples: "):
            broken.undecodable[number] = verdict.removeprefix("samples: ")
        elif verdict:
            broken.dropped.setdefault(verdict, []).append(f"{path}:{number}")
    return broken
