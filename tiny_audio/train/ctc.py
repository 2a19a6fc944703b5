"""Encoder pretraining: a Whisper-kind encoder under a linear head over characters, CTC loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.data.batching import Item
from tiny_audio.infer.ctc_head import CHARACTERS, encode_characters, read_paths
from tiny_audio.model.encoder import AudioEncoder, EncoderConfig, Features, empty_encoder, features
from tiny_audio.presets import nano

LENGTH_STEP = 40  # mel steps of 10 ms
ENCODER_CONFIG = EncoderConfig(architecture=nano.ENCODER)


class CtcBatch(NamedTuple):
    features: Features
    texts: list[str]


class CtcModel(nn.Module):
    """The encoder and its character head."""

    def __init__(self, encoder: AudioEncoder):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.width, len(CHARACTERS) + 1)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T, characters + 1) in float32, and lengths_B."""
        frames_BTE, lengths_B = self.encoder(features)
        return self.read(frames_BTE), lengths_B

    def read(self, frames_BTE: Tensor) -> Tensor:
        """Log-probabilities of frames that the encoder gave."""
        return self.head(frames_BTE).float().log_softmax(-1)

    def loss(self, batch: CtcBatch) -> tuple[Tensor, int]:
        """CTC loss summed over the batch, and its number of characters (at least one a clip)."""
        log_probs_BTC, lengths_B = self(batch.features)
        return spelling_loss(log_probs_BTC, lengths_B, batch.texts)

    def transcribe(self, features: Features) -> list[str]:
        """The best path, collapsed."""
        log_probs_BTC, lengths_B = self(features)
        return read_paths(log_probs_BTC, lengths_B)


def spelling_loss(
    log_probs_BTC: Tensor, lengths_B: Tensor, texts: Sequence[str]
) -> tuple[Tensor, int]:
    """CTC loss summed over the clips, and their number of characters (at least one a clip)."""
    targets = [encode_characters(text) for text in texts]
    sizes_B = torch.tensor([len(t) for t in targets])
    total = F.ctc_loss(
        log_probs_BTC.transpose(0, 1),
        torch.tensor([c for t in targets for c in t], dtype=torch.long),
        lengths_B,
        sizes_B,
        reduction="sum",
        zero_infinity=True,  # a sped-up clip may have fewer frames than characters
    )
    return total, int(sizes_B.clamp(min=1).sum())


def new_ctc_model(seed: int) -> CtcModel:
    torch.manual_seed(seed)
    encoder = empty_encoder(ENCODER_CONFIG)
    stock: Any = encoder.model
    stock.set_attn_implementation("eager")  # 2 cores, bf16: 61 clips/s; sdpa 51, compiled 39
    return CtcModel(encoder)


def collate(items: Sequence[Item], change_seed: int | None = None) -> CtcBatch:
    """Items → log-mel features and texts; with a seed, features are changed for training."""
    clips = [torch.from_numpy(np.ascontiguousarray(item.samples())) for item in items]
    batch = features(ENCODER_CONFIG, clips)
    # oneDNN compiles kernels for every new shape; with lengths in steps of 0.4 s they come back.
    values = F.pad(batch.values, (0, -batch.values.shape[-1] % LENGTH_STEP))
    batch = Features(values, batch.lengths_B)
    if change_seed is not None:
        rng = np.random.default_rng(change_seed)
        stretch_pitch(batch, rng)
        colour(batch, rng)
        if change_seed % 4 == 0:  # masks in every batch slowed the first half hour down
            mask_patches(batch, rng)
    return CtcBatch(batch, [item.text for item in items])


def stretch_pitch(batch: Features, rng: np.random.Generator) -> None:
    """Other vocal tracts: most clips' mel axis is scaled by 0.82 to 1.22, in place."""
    bins = np.arange(batch.values.shape[1])
    for row, values_FM in enumerate(batch.values):
        if rng.random() < 0.7:
            place = np.clip(bins * rng.uniform(0.82, 1.22), 0, len(bins) - 1)
            low = np.floor(place).astype(int)
            high, share = np.minimum(low + 1, len(bins) - 1), torch.from_numpy(place - low).float()
            lower, upper = values_FM[low], values_FM[high]
            batch.values[row] = lower + (upper - lower) * share[:, None]


def colour(batch: Features, rng: np.random.Generator) -> None:
    """Other microphones: half of the clips get a smooth curve of up to ±8 dB over the mel axis."""
    bins = np.arange(batch.values.shape[1])
    knots = np.linspace(0, len(bins) - 1, 5)
    for values_FM, steps in zip(batch.values, batch.lengths_B.tolist(), strict=True):
        if rng.random() < 0.5:
            curve_db = np.interp(bins, knots, rng.uniform(-8, 8, len(knots)))
            # Whisper's features are (log10 power + 4) / 4: 40 dB are 1.
            values_FM[:, :steps] += torch.from_numpy(curve_db / 40).float()[:, None]


def mask_patches(batch: Features, rng: np.random.Generator) -> None:
    """SpecAugment in place: up to 0.2 s in every 2 s, and up to 12 mel bins, become the mean."""
    for values_FM, steps in zip(batch.values, batch.lengths_B.tolist(), strict=True):
        mean = float(values_FM[:, :steps].mean())
        for _ in range(steps // 200 + 1):
            width = int(rng.integers(0, min(20, steps // 4) + 1))
            start = int(rng.integers(0, steps - width + 1))
            values_FM[:, start : start + width] = mean
        width, start = int(rng.integers(0, 13)), int(rng.integers(0, 68))
        values_FM[start : start + width, :steps] = mean
