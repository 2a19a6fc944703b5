"""Augmentation of float32 samples at 16 kHz; every random draw comes from the generator.

Only `change_speed` and `pad_with_silence` change the length; all others keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.config import StrictConfig

Rng = np.random.Generator
TELEPHONE_HZ = (300, 3400)


@dataclass(frozen=True, kw_only=True)
class Augment(StrictConfig):
    """Probabilities and ranges of changes: for unknown voices, but mild, for short training."""

    speed: float = 0.2
    speed_range: tuple[float, float] = (0.88, 1.14)
    room: float = 0.04
    band: float = 0.12
    codec: float = 0.0
    noise: float = 0.3
    snr_db: tuple[float, float] = (10.0, 40.0)
    level_db: tuple[float, float] = (-32.0, -14.0)
    silence: float = 0.4
    silence_s: float = 0.35


def change_speed(samples_N: np.ndarray, factor: float) -> np.ndarray:
    """Play faster (factor > 1) or slower: tempo, pitch and formants move together."""
    return soxr.resample(samples_N, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ")


def pad_with_silence(samples_N: np.ndarray, before_s: float, after_s: float) -> np.ndarray:
    return np.pad(samples_N, (int(before_s * SAMPLE_RATE), int(after_s * SAMPLE_RATE)))


def add_room(samples_N: np.ndarray, rng: Rng) -> np.ndarray:
    """Convolve with noise that decays exponentially (reverberation time 0.1–0.5 s)."""
    decay_s = rng.uniform(0.1, 0.5)
    time_s = np.arange(int(0.6 * decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail *= rng.uniform(0.1, 0.5) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    size = _fft_size(len(samples_N) + len(tail))
    wet = np.fft.irfft(
        np.fft.rfft(samples_N, size) * np.fft.rfft(tail.astype(np.float32), size), size
    )
    return wet[: len(samples_N)].astype(np.float32)


def limit_band(samples_N: np.ndarray, rng: Rng) -> np.ndarray:
    """Limit the band to a telephone's 300–3,400 Hz, or by a random low-pass of 2–7 kHz."""
    telephone = rng.random() < 0.4
    return keep_band(samples_N, *(TELEPHONE_HZ if telephone else (0, rng.uniform(2000, 7000))))


def keep_band(samples_N: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Keep only what lies between two frequencies, with soft edges; 0 means no lower edge."""
    size = _fft_size(len(samples_N))
    spectrum = np.fft.rfft(samples_N, size)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum *= 1 / (1 + (hz / high_hz) ** 12)
    if low_hz:
        spectrum *= 1 - 1 / (1 + (hz / low_hz) ** 8)
    return np.fft.irfft(spectrum, size)[: len(samples_N)].astype(np.float32)


def telephone_codec(samples_N: np.ndarray) -> np.ndarray:
    """Send samples through G.711 and back (μ-law, 8 bits); its noise grows with the sound."""
    mu = 255.0
    pressed = np.sign(samples_N) * np.log1p(mu * np.abs(np.clip(samples_N, -1, 1))) / np.log1p(mu)
    stored = np.round(pressed * 127) / 127
    return (np.sign(stored) * np.expm1(np.abs(stored) * np.log1p(mu)) / mu).astype(np.float32)


def add_noise(
    samples_N: np.ndarray, rng: Rng, snr_db: float, slope: float | None = None
) -> np.ndarray:
    """Add coloured noise at the given ratio to the clip's mean power."""
    noise = coloured_noise(len(samples_N), rng, slope)
    power = float(np.square(samples_N).mean()) + 1e-9
    return samples_N + noise * np.float32(np.sqrt(power / 10 ** (snr_db / 10)))


def coloured_noise(num_samples: int, rng: Rng, slope: float | None = None) -> np.ndarray:
    """Return noise of unit power whose amplitude falls with frequency to the power of `slope`.

    0 is white, 0.5 pink, 1 brown; None draws a slope from 0 to 1.2.
    """
    size = _fft_size(num_samples)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    shape = (hz + 50.0) ** -(rng.uniform(0.0, 1.2) if slope is None else slope)
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32)) * shape
    noise = np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)
    return noise / (np.sqrt(np.square(noise).mean()) + 1e-9)


def set_level(samples_N: np.ndarray, level_db: float) -> np.ndarray:
    """Scale to a mean power in dB of full scale; the peak stays below 1."""
    rms = float(np.sqrt(np.square(samples_N).mean())) + 1e-6
    gain = min(10 ** (level_db / 20) / rms, 0.99 / (float(np.abs(samples_N).max()) + 1e-6))
    return samples_N * np.float32(gain)


def augment(samples_N: np.ndarray, rng: Rng, how: Augment) -> np.ndarray:
    """Apply all of the above in the order speaker, room, microphone."""
    if rng.random() < how.speed:
        samples_N = change_speed(samples_N, rng.uniform(*how.speed_range))
    if rng.random() < how.silence:
        samples_N = pad_with_silence(samples_N, *rng.uniform(0, how.silence_s, 2))
    if rng.random() < how.room:
        samples_N = add_room(samples_N, rng)
    if rng.random() < how.noise:
        samples_N = add_noise(samples_N, rng, rng.uniform(*how.snr_db))
    if rng.random() < how.band:
        samples_N = limit_band(samples_N, rng)
    if how.codec and rng.random() < how.codec:  # no draw where there is none: old seeds stay
        samples_N = telephone_codec(samples_N)
    return set_level(samples_N, rng.uniform(*how.level_db))


def _fft_size(num_samples: int) -> int:
    """Return the next product of a power of two and 1, 3 or 5 quarters, which is fast."""
    power = 1 << max(num_samples - 1, 1).bit_length()
    return next(s for s in (power * 5 // 8, power * 3 // 4, power) if s >= num_samples)
