"""Encoding clips of different lengths with little padding, by grouping clips of like length."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from tiny_audio.model.encoder import Features
from tiny_audio.model.modeling import AudioLM, EncodedAudio

# The shortest clip of a group is this share of its longest, so at most a fifth of it is padding.
LIKENESS = 0.8


def embed_by_length(model: AudioLM, features: Features) -> EncodedAudio:
    """Return what `model.embed_audio` gives, computed in groups of clips of like length."""
    groups = list(alike(features.lengths_B))
    if len(groups) == 1:
        return model.embed_audio(features)
    encoded = [model.embed_audio(part(features, rows_B)) for rows_B in groups]
    back_B = torch.cat(groups).argsort()
    return EncodedAudio(
        joined([h.frames_BTE for h in encoded])[back_B],
        torch.cat([h.frame_lengths_B for h in encoded])[back_B],
        joined([h.audio_BPD for h in encoded])[back_B],
        torch.cat([h.lengths_B for h in encoded])[back_B],
    )


def alike(lengths_B: Tensor) -> Iterator[Tensor]:
    """Return row numbers in groups of like length, longest clips first."""
    order_B = lengths_B.argsort(descending=True)
    sorted_lengths = lengths_B[order_B].tolist()
    start = 0
    for place, length in enumerate(sorted_lengths):
        if length < LIKENESS * sorted_lengths[start]:
            yield order_B[start:place]
            start = place
    yield order_B[start:]


def part(features: Features, rows_B: Tensor) -> Features:
    """Return some clips, without the padding that none of them needs."""
    lengths_B = features.lengths_B[rows_B]
    return Features(features.values[rows_B][..., : int(lengths_B.max())], lengths_B)


def joined(parts: list[Tensor]) -> Tensor:
    """Join batches (B, length, width) one after another, padded to the longest."""
    longest = max(p.shape[1] for p in parts)
    return torch.cat([F.pad(p, (0, 0, 0, longest - p.shape[1])) for p in parts])
