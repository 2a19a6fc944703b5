"""Encoder pretraining: a Whisper-kind encoder under a linear head over characters, CTC loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.batching import Item
from tiny_audio.infer.ctc_head import CHARACTERS, read_paths
from tiny_audio.model.encoder import AudioEncoder, EncoderConfig, empty_encoder, features
from tiny_audio.model.features import Features
from tiny_audio.presets import nano
from tiny_audio.train.ctc import (
    LENGTH_STEP,
    colour,
    mask_patches,
    spelling_loss,
    stretch_pitch,
)

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
        """Return the log-probabilities of the encoder's frames."""
        return self.head(frames_BTE).float().log_softmax(-1)

    def loss(self, batch: CtcBatch) -> tuple[Tensor, int]:
        """CTC loss summed over the batch, and its number of characters (at least one a clip)."""
        log_probs_BTC, lengths_B = self(batch.features)
        return spelling_loss(log_probs_BTC, lengths_B, batch.texts)

    def transcribe(self, features: Features) -> list[str]:
        """Return the texts of the best paths, without repeats and blanks."""
        log_probs_BTC, lengths_B = self(features)
        return read_paths(log_probs_BTC, lengths_B)


def new_ctc_model(seed: int) -> CtcModel:
    torch.manual_seed(seed)
    encoder = empty_encoder(ENCODER_CONFIG)
    stock: Any = encoder.model
    stock.set_attn_implementation("eager")  # 2 cores, bf16: 61 clips/s; sdpa 51, compiled 39
    return CtcModel(encoder)


def collate(items: Sequence[Item], change_seed: int | None = None) -> CtcBatch:
    """Make log-mel features and texts of items; with a seed, features are augmented."""
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
