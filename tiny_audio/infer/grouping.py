"""Encoding clips of different lengths with little padding, by grouping clips of like length.

What is kept of them is what the decoder reads; frames are forgotten as soon as they are audio
embeddings, so an hour in windows of 30 s takes little more memory than two minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BatchFeature

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.encoder import Features
from tiny_audio.model.modeling import AudioLM, as_features

FEATURE_KEYS = ("input_features", "input_features_mask", "input_values", "input_values_mask")
# The shortest clip of a group is this share of its longest, so at most a fifth of it is padding.
LIKENESS = 0.8
GROUP_S = 120.0  # of sound in a group, padding counted; one window may be more


def embed_prompts(model: AudioLM, batch: BatchFeature) -> tuple[Tensor, Tensor]:
    """Turn a batch of the processor into prompt embeddings (B, L, D) and their mask (B, L)."""
    ids_BL = batch["input_ids"].to(model.device)
    mask_BL = batch["attention_mask"].to(model.device)
    clips = as_features(*(batch.get(name) for name in FEATURE_KEYS))
    if clips is None:  # text alone
        return model.get_input_embeddings()(ids_BL), mask_BL
    return model.fuse(ids_BL, *embed_by_length(model, clips)), mask_BL


def embed_by_length(model: AudioLM, features: Features) -> tuple[Tensor, Tensor]:
    """Return audio_BPD and lengths_B of `model.embed_audio`, computed in groups of like length.

    `features` may lie on another device than the model: each group is moved when it is its turn.
    """
    steps_per_s = SAMPLE_RATE / model.config.encoder.record.hop
    most = int(GROUP_S * steps_per_s)
    groups = list(alike(features.lengths_B, most))
    embedded, lengths = [], []
    for rows_B in groups:
        values, steps_B = part(features, rows_B)
        group = model.embed_audio(Features(values.to(model.device), steps_B.to(model.device)))
        embedded.append(group.audio_BPD)
        lengths.append(group.lengths_B)
    back_B = torch.cat(groups).argsort()
    return joined(embedded)[back_B], torch.cat(lengths)[back_B]


def alike(lengths_B: Tensor, most: int) -> Iterator[Tensor]:
    """Return row numbers in groups, longest clips first; a group takes `most` steps or one clip."""
    order_B = lengths_B.argsort(descending=True)
    sorted_lengths = lengths_B[order_B].tolist()
    start = 0
    for place, length in enumerate(sorted_lengths):
        longest = sorted_lengths[start]
        if length < LIKENESS * longest or longest * (place - start + 1) > max(most, longest):
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
