"""The loss of a micro-batch: the sum over its supervised tokens.

Only supervised rows reach the vocabulary, and they do so in chunks: at 151,936 words the logits of
one long batch would take more memory than the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tiny_audio.model.modeling import AudioLM, positions_of
from tiny_audio.model.prompt import IGNORED
from tiny_audio.train.batch import Batch
from tiny_audio.train.loop import Losses

CHUNK_LOGITS = 2**24  # 64 MiB of them in float32


def chunked_loss(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in float32, and how many targets were the most likely token.

    Logits exist for one chunk at a time, also in the backward pass, where they are computed again.
    """
    size = chunk_size(head)
    if len(targets_S) <= size:
        return _chunk_loss(head, hidden_SD, targets_S)
    parts = [
        checkpoint(_chunk_loss, head, hidden, targets, use_reentrant=False)
        for hidden, targets in zip(hidden_SD.split(size), targets_S.split(size), strict=True)
    ]
    return torch.stack([p[0] for p in parts]).sum(), torch.stack([p[1] for p in parts]).sum()


def chunk_size(head: nn.Module) -> int:
    """Return how many rows' logits are held at once."""
    vocabulary: Any = head.weight
    return max(1, CHUNK_LOGITS // len(vocabulary))


def _chunk_loss(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
    few = F.pad(hidden_SD, (0, 0, 0, -len(hidden_SD) % 128))  # few shapes, for oneDNN's sake
    logits_SV = head(few)[: len(targets_S)].float()
    correct = (logits_SV.detach().argmax(-1) == targets_S).sum()
    return F.cross_entropy(logits_SV, targets_S, reduction="sum"), correct


class Listening(nn.Module):
    """The model with the loss of a stage; the only thing that is wrapped for many processes."""

    def __init__(self, model: AudioLM):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch | None) -> Losses:
        """`None` is an empty micro-batch: no loss, but every trainable weight takes part (P26)."""
        if batch is None:
            parts = [p.sum() for p in self.parameters() if p.requires_grad]
            return Losses(torch.stack(parts).sum() * 0.0, 0)
        batch = batch.to(self.model.device)
        embeds_BLD = self.embed(batch)
        hidden_SD, targets_S = self.answers(embeds_BLD, batch.mask_BL, batch.labels_BL)
        head = self.model.get_output_embeddings()
        total, correct = chunked_loss(head, hidden_SD, targets_S)
        if not batch.counts:
            return Losses(total * 0.0, 0)
        return Losses(total, len(targets_S), int(correct))

    def embed(self, batch: Batch) -> Tensor:
        """Return prompt embeddings (B, L, D), from sound or from cached frames."""
        return self.model.embed_prompts(batch.ids_BL, batch.audio)

    def answers(
        self, embeds_BLD: Tensor, mask_BL: Tensor, labels_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the decoder's last hidden states (S, D) at supervised tokens, and these tokens."""
        decoder: Any = self.model.language_model
        hidden_BLD = decoder.base_model(
            inputs_embeds=embeds_BLD,
            attention_mask=mask_BL,
            position_ids=positions_of(mask_BL),
            use_cache=False,
        ).last_hidden_state
        targets_BL = labels_BL[:, 1:]
        supervised = targets_BL != IGNORED
        return hidden_BLD[:, :-1][supervised], targets_BL[supervised]
