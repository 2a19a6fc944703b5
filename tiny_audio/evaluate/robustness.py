"""Measuring word errors under noise, speed, a narrow band and codecs: the same clips, made worse.

    clean                   as recorded
    noise:COLOUR@SNRdB      white, pink or brown noise; its power is that of the clip less SNR
    speed:FACTOR            faster (> 1) or slower; pitch moves with it
    band:telephone          300 to 3,400 Hz; band:LOW-HIGHHz is any other
    codec:NAME              there and back through mulaw, mp3, vorbis or opus

Clips are made worse when they are read, from a seed of their own, which their prediction keeps in
the column `degraded_seed` beside `condition`.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import soundfile

from tiny_audio.data.augment import (
    TELEPHONE_HZ,
    add_noise,
    change_speed,
    keep_band,
    telephone_codec,
)
from tiny_audio.data.examples import Example, Sound, SourceConfig
from tiny_audio.evaluate.clips import identifier
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError

CLEAN = "clean"
SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}
CONTAINERS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
GRID = (
    CLEAN,
    *(f"noise:{colour}@{snr}dB" for colour in SLOPES for snr in (20, 10, 0)),
    *(f"speed:{factor:g}" for factor in (0.8, 0.9, 1.1, 1.25)),
    "band:telephone",
    "codec:mulaw",
    "codec:mp3",
)
NUMBER = r"(-?\d+(?:\.\d+)?)"
Worse = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def condition(name: str) -> Worse:
    """Return what a condition does to samples; an unknown one is a `ConfigError` with examples."""
    kind, _, value = name.partition(":")
    if name == CLEAN:
        return lambda samples_N, rng: samples_N
    if kind == "noise" and (found := re.fullmatch(rf"(\w+)@{NUMBER}dB", value)):
        if found[1] in SLOPES:
            return partial(_noisy, snr_db=float(found[2]), slope=SLOPES[found[1]])
    elif kind == "speed" and 0.5 <= speed_of(name) <= 2:
        return lambda samples_N, rng: change_speed(samples_N, speed_of(name))
    elif kind == "band" and (band := _band(value)):
        return lambda samples_N, rng: keep_band(samples_N, *band)
    elif kind == "codec" and value in (*CONTAINERS, "mulaw"):
        return lambda samples_N, rng: through_codec(samples_N, value)
    raise ConfigError(f"No condition {name!r}. Expected one like {', '.join(GRID[::4])}.")


def speed_of(name: str) -> float:
    """Return the factor of `speed:FACTOR`; 1 for other conditions, 0 where FACTOR is no number."""
    kind, _, value = name.partition(":")
    if kind != "speed":
        return 1.0
    return float(value) if re.fullmatch(NUMBER, value) else 0.0


def _band(value: str) -> tuple[float, float] | None:
    if value == "telephone":
        return TELEPHONE_HZ
    found = re.fullmatch(rf"{NUMBER}-{NUMBER}Hz", value)
    low, high = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    return (low, high) if 0 <= low < high <= SAMPLE_RATE / 2 else None


def _noisy(
    samples_N: np.ndarray, rng: np.random.Generator, snr_db: float, slope: float
) -> np.ndarray:
    return add_noise(samples_N, rng, snr_db, slope)


def through_codec(samples_N: np.ndarray, name: str) -> np.ndarray:
    """Encode and decode samples, and return as many as before."""
    if name == "mulaw":
        return telephone_codec(samples_N)
    container, subtype = CONTAINERS[name]
    file = io.BytesIO()
    soundfile.write(file, samples_N, SAMPLE_RATE, subtype, format=container)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.pad(decoded, (0, max(0, len(samples_N) - len(decoded))))[: len(samples_N)]


@dataclass(frozen=True)
class DegradedSound:
    """A sound under a condition: made worse each time it is asked for, always in the same way."""

    sound: Sound
    condition: str
    seed: int

    def samples(self) -> np.ndarray:
        worse = condition(self.condition)
        made = worse(self.sound.samples(), np.random.default_rng(self.seed))
        return np.ascontiguousarray(made, np.float32)

    def digest(self) -> str:
        named = f"{self.sound.digest()} {self.condition} {self.seed}"
        return hashlib.sha256(named.encode()).hexdigest()


def degraded(
    examples: Iterable[Example], source: SourceConfig, name: str, seed: int
) -> Iterable[Example]:
    """Return the same clips under a condition, each with its seed; a list stays a list."""
    condition(name)  # refused before the first clip is answered
    made = (_degraded(example, source, name, seed) for example in examples)
    return list(made) if isinstance(examples, list) else made


def _degraded(example: Example, source: SourceConfig, name: str, seed: int) -> Example:
    key = f"{seed}/{name}/{identifier(example, source)}"
    own = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4])
    return replace(
        example,
        duration_s=example.duration_s / speed_of(name),
        sound=DegradedSound(example.sound, name, own),
        columns={**example.columns, "condition": name, "degraded_seed": own},
    )
