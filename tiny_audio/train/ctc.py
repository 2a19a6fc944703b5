"""The CTC loss over characters, and changes of log-mel features that sound like other voices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tiny_audio.infer.ctc_head import encode_characters
from tiny_audio.model.features import Features

LENGTH_STEP = 40  # mel steps of 10 ms


def spelling_loss(
    log_probs_BTC: Tensor, lengths_B: Tensor, texts: Sequence[str]
) -> tuple[Tensor, int]:
    """Return the CTC loss summed over the clips, and their characters (one a clip at least)."""
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


def stretch_pitch(batch: Features, rng: np.random.Generator) -> None:
    """Imitate other vocal tracts: most clips' mel axis is scaled by 0.82 to 1.22, in place."""
    bins = np.arange(batch.values.shape[1])
    for row, values_FM in enumerate(batch.values):
        if rng.random() < 0.7:
            place = np.clip(bins * rng.uniform(0.82, 1.22), 0, len(bins) - 1)
            low = np.floor(place).astype(int)
            high, share = np.minimum(low + 1, len(bins) - 1), torch.from_numpy(place - low).float()
            lower, upper = values_FM[low], values_FM[high]
            batch.values[row] = lower + (upper - lower) * share[:, None]


def colour(batch: Features, rng: np.random.Generator) -> None:
    """Imitate other microphones: half of the clips get a smooth curve of up to ±8 dB."""
    bins = np.arange(batch.values.shape[1])
    knots = np.linspace(0, len(bins) - 1, 5)
    for values_FM, steps in zip(batch.values, batch.lengths_B.tolist(), strict=True):
        if rng.random() < 0.5:
            curve_db = np.interp(bins, knots, rng.uniform(-8, 8, len(knots)))
            # Whisper's features are (log10 power + 4) / 4: 40 dB are 1.
            values_FM[:, :steps] += torch.from_numpy(curve_db / 40).float()[:, None]


def mask_patches(batch: Features, rng: np.random.Generator) -> None:
    """Apply SpecAugment in place: up to 0.2 s in every 2 s and 12 mel bins become the mean."""
    for values_FM, steps in zip(batch.values, batch.lengths_B.tolist(), strict=True):
        mean = float(values_FM[:, :steps].mean())
        for _ in range(steps // 200 + 1):
            width = int(rng.integers(0, min(20, steps // 4) + 1))
            start = int(rng.integers(0, steps - width + 1))
            values_FM[:, start : start + width] = mean
        width, start = int(rng.integers(0, 13)), int(rng.integers(0, 68))
        values_FM[start : start + width, :steps] = mean
