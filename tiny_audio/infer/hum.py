"""Taking the hum of mains out of a window before a model listens to it.

The lowest voices begin at about 80 Hz, mains hum at 50 or 60. A model that was trained without hum
invents words in it. Sound without it is left as it is, bit for bit.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from tiny_audio.model.audio import SAMPLE_RATE

from .longform import Window

MAINS_HZ, AROUND_HZ = (50.0, 60.0), 1.5
# Hum is taken out where this share of a window's power lies around 50 or 60 Hz (decision 070).
LOUD_DB = -15.0
# All below the first is taken out, nothing above the second, and a falling share between them.
BELOW_HZ, ABOVE_HZ = 65.0, 90.0
EDGE = SAMPLE_RATE // 2  # samples mirrored at both ends, so that they are filtered like the rest


def without_hum(window: Window) -> Window:
    """Return a window without hum, or the same window where there is little."""
    samples_N = window.samples_N.double().numpy()
    if hum_db(samples_N) < LOUD_DB:
        return window
    return window._replace(samples_N=_high_passed(samples_N))


def hum_db(samples_N: NDArray[np.float64]) -> float:
    """Return the share of the power that lies around 50 or 60 Hz, in dB; -inf for a constant."""
    tapered = (samples_N - samples_N.mean()) * np.hanning(len(samples_N))
    power = np.square(np.abs(np.fft.rfft(tapered)))
    hertz = np.fft.rfftfreq(len(samples_N), 1 / SAMPLE_RATE)
    hum = max(power[np.abs(hertz - mains) < AROUND_HZ].sum() for mains in MAINS_HZ)
    if hum < 1e-12:
        return -np.inf
    return float(10 * np.log10(hum / power.sum()))


def _high_passed(samples_N: NDArray[np.float64]) -> Tensor:
    """Return samples without what is below speech, in phase with what they were."""
    wide = np.pad(samples_N, EDGE, mode="reflect", reflect_type="odd")
    hertz = np.fft.rfftfreq(len(wide), 1 / SAMPLE_RATE)
    rise = np.clip((hertz - BELOW_HZ) / (ABOVE_HZ - BELOW_HZ), 0, 1)
    passed = np.fft.irfft(np.fft.rfft(wide) * (0.5 - 0.5 * np.cos(np.pi * rise)), len(wide))
    return from_numpy(passed[EDGE:-EDGE].astype(np.float32))
