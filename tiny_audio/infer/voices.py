"""Voices as vectors: a small LSTM hears 1.6 s of speech and says how the speaker sounds.

The weights are those of Resemblyzer (Apache 2.0; "Generalized end-to-end loss for speaker
verification", Wan et al. 2018). Its wheel brings them; none of its code is imported. They lie in a
file of pickles, which is not unpickled either: the file is known by its SHA-256, so the numbers in
it lie at known places.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import CheckpointError, MissingExtra
from tiny_audio.model.features import FFT_SAMPLES, HOP_SAMPLES, mel_filters
from tiny_audio.model.sources import PACKAGE, packaged

from .longform import Window

SOURCE = f"{PACKAGE}resemblyzer/resemblyzer/pretrained.pt"
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
# Where the file's float32 numbers begin, in bytes: all of the LSTM's lie together.
LINEAR_BIAS, LINEAR_WEIGHT, LSTM = 6_699, 7_731, 269_883
NUM_MELS, WIDTH, NUM_LAYERS = 40, 256, 3
STEPS = 160  # that the network was trained to hear at once
STRETCH = STEPS * HOP_SAMPLES
STRETCH_EVERY = SAMPLE_RATE * 2 // 5
LEAST_DBFS = -30.0  # quieter speech is made as loud as this
BATCH = 64

# The seam: it takes stretches (B, samples) and returns their vectors (B, D) of length 1, whose
# product is near 1 for one voice and smaller for two. Any function of this kind may be used.
Embed = Callable[[Tensor], Tensor]


class Voice(NamedTuple):
    """The vector of a stretch from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    vector_D: Tensor


def voices_of(window: Window, embed: Embed) -> list[Voice]:
    """Return the voices of a window's overlapping stretches, which reach over all of it."""
    samples_N, start_s = window.samples_N, window.start / SAMPLE_RATE
    level_dbfs = 20 * math.log10(max(1e-6, float(samples_N.square().mean().sqrt())))
    samples_N = samples_N * 10 ** (max(0.0, LEAST_DBFS - level_dbfs) / 20)
    last = max(0, len(samples_N) - STRETCH)
    starts = [*range(0, last, STRETCH_EVERY), last]
    samples_N = F.pad(samples_N, (0, max(0, STRETCH - len(samples_N))))
    stretches_BN = torch.stack([samples_N[start : start + STRETCH] for start in starts])
    vectors_BD = torch.cat([embed(batch) for batch in stretches_BN.split(BATCH)])
    end_s = start_s + len(window.samples_N) / SAMPLE_RATE
    times = [(start_s + start / SAMPLE_RATE, STRETCH / SAMPLE_RATE) for start in starts]
    return [
        Voice(at_s, min(at_s + long_s, end_s), vector_D)
        for (at_s, long_s), vector_D in zip(times, vectors_BD, strict=True)
    ]


class VoiceEncoder(nn.Module):
    """Resemblyzer's network: mel powers, three LSTMs, and a layer on the last step's state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(NUM_MELS, WIDTH, NUM_LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    @torch.inference_mode()
    def forward(self, samples_BN: Tensor) -> Tensor:
        """Return vectors (B, 256) of stretches."""
        spectra_BFT = torch.stft(
            samples_BN,
            FFT_SAMPLES,
            HOP_SAMPLES,
            window=torch.hann_window(FFT_SAMPLES),
            pad_mode="constant",
            return_complex=True,
        )
        mels_BTM = spectra_BFT.abs().square().mT @ mel_filters(NUM_MELS).T
        _, (state_LBD, _) = self.lstm(mels_BTM[:, :STEPS])
        return F.normalize(self.linear(state_LBD[-1]).relu(), dim=-1)


def load_voices() -> VoiceEncoder:
    """Load the network with Resemblyzer's weights. Raises `MissingExtra` where they are not
    installed, and `CheckpointError` where they are another file.
    """
    try:
        data = packaged(SOURCE).read_bytes()
    except CheckpointError as error:
        raise MissingExtra("Saying who spoke", "diarize") from error
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise CheckpointError(
            f"{packaged(SOURCE)} is not the file of Resemblyzer 0.1.4 (SHA-256 {found}). Install "
            f"it again: pip install --force-reinstall --no-deps resemblyzer==0.1.4"
        )
    encoder = VoiceEncoder().eval()
    fill([encoder.linear.bias], data, LINEAR_BIAS)
    fill([encoder.linear.weight], data, LINEAR_WEIGHT)
    named = dict(encoder.lstm.named_parameters())
    matrices = [named[f"weight_{of}_l{n}"] for n in range(NUM_LAYERS) for of in ("ih", "hh")]
    biases = [named[f"bias_{of}_l{n}"] for n in range(NUM_LAYERS) for of in ("ih", "hh")]
    fill([*matrices, *biases], data, LSTM)
    return encoder


@torch.no_grad()
def fill(parameters: Sequence[Tensor], data: bytes, start: int) -> None:
    """Copy numbers that lie one after another from the byte `start` on."""
    for parameter in parameters:
        values = np.frombuffer(data, "<f4", parameter.numel(), start)
        parameter.copy_(torch.from_numpy(values.copy()).view_as(parameter))
        start += values.nbytes
