"""The step: a micro-batch → the sum of its losses over supervised tokens.

Only supervised rows reach the vocabulary, and they do so in chunks: at 151,936 words the logits of
one long batch would take more memory than the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tiny_audio.model.encoder import Features
from tiny_audio.model.modeling import AudioLM, positions_of
from tiny_audio.model.prompt import IGNORED
from tiny_audio.train.batch import Batch
from tiny_audio.train.loop import Losses
from tiny_audio.train.recipe import DistillConfig

CHUNK_LOGITS = 2**24  # 64 MiB of them in float32


def chunked_loss(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in float32, and how many targets were the most likely token.

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
    """Rows whose logits are held at once."""
    vocabulary: Any = head.weight
    return max(1, CHUNK_LOGITS // len(vocabulary))


def _chunk_loss(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
    few = F.pad(hidden_SD, (0, 0, 0, -len(hidden_SD) % 128))  # few shapes, for oneDNN's sake
    logits_SV = head(few)[: len(targets_S)].float()
    correct = (logits_SV.detach().argmax(-1) == targets_S).sum()
    return F.cross_entropy(logits_SV, targets_S, reduction="sum"), correct


class Listening(nn.Module):
    """The model with the loss of a stage; the only thing that is wrapped for many processes."""

    def __init__(
        self, model: AudioLM, *, packing: bool = False, distill: DistillConfig | None = None
    ):
        super().__init__()
        self.model, self.packing, self.distill = model, packing, distill
        self._lessons: dict[bytes, tuple[Tensor, Tensor]] = {}  # prompt → teacher's best tokens

    def forward(self, batch: Batch | None) -> Losses:
        """`None` is an empty micro-batch: no loss, but every trainable weight takes part (P26)."""
        if batch is None:
            parts = [p.sum() for p in self.parameters() if p.requires_grad]
            return Losses(torch.stack(parts).sum() * 0.0, 0)
        batch = batch.to(self.model.device)
        self.model.projector.auxiliary_loss = None  # of an earlier call: set in training only
        embeds_BLD = self.embed(batch)
        hidden_SD, targets_S = self.answers(embeds_BLD, batch.mask_BL, batch.labels_BL)
        head = self.model.get_output_embeddings()
        total, correct = chunked_loss(head, hidden_SD, targets_S)
        if self.distill is not None:
            total = total + self.distill.weight * self.divergence(head, hidden_SD, batch)
        extra = self.model.projector.auxiliary_loss
        if extra is not None:  # a mean, weighed like the tokens it stands beside
            total = total + extra * len(targets_S)
        if not batch.counts:
            return Losses(total * 0.0, 0)
        return Losses(total, len(targets_S), int(correct))

    def embed(self, batch: Batch) -> Tensor:
        """Prompt embeddings (B, L, D), from sound or from cached frames."""
        model = self.model
        if isinstance(batch.heard, Features):
            audio = model.embed_audio(batch.heard)
            audio_BPD, lengths_B = audio.audio_BPD, audio.lengths_B
        else:
            audio_BPD, lengths_B = model.projector(*batch.heard)
        return model.fuse(batch.ids_BL, audio_BPD, lengths_B)

    def answers(
        self, embeds_BLD: Tensor, mask_BL: Tensor, labels_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The decoder's last hidden states (S, D) where a token is supervised, and these tokens."""
        decoder: Any = self.model.language_model
        if self.packing:
            hidden_BLD = self.packed(embeds_BLD, mask_BL)
        else:
            hidden_BLD = decoder.base_model(
                inputs_embeds=embeds_BLD,
                attention_mask=mask_BL,
                position_ids=positions_of(mask_BL),
                use_cache=False,
            ).last_hidden_state
        targets_BL = labels_BL[:, 1:]
        supervised = targets_BL != IGNORED
        return hidden_BLD[:, :-1][supervised], targets_BL[supervised]

    def packed(self, embeds_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """All rows one after another in one, without padding: positions that begin anew keep them
        apart (transformers makes the block-diagonal mask from them).
        """
        decoder: Any = self.model.language_model
        valid = mask_BL.bool()
        hidden_1SD = decoder.base_model(
            inputs_embeds=embeds_BLD[valid][None],
            position_ids=positions_of(mask_BL)[valid][None],
            use_cache=False,
        ).last_hidden_state
        return torch.zeros_like(embeds_BLD, dtype=hidden_1SD.dtype).index_put(
            torch.where(valid), hidden_1SD[0]
        )

    # Distillation ---------------------------------------------------------------------------------

    def divergence(self, head: nn.Module, hidden_SD: Tensor, batch: Batch) -> Tensor:
        """KL(teacher ‖ student), summed, over the teacher's `top_k` tokens and one for the rest."""
        assert self.distill is not None
        rows = (hidden_SD, *self.lesson(head, batch))
        size, heat = chunk_size(head), self.distill.temperature
        return torch.stack(
            [
                checkpoint(_divergence, head, heat, *chunk, use_reentrant=False)
                for chunk in zip(*(r.split(size) for r in rows), strict=True)
            ]
        ).sum()

    @torch.no_grad()
    def lesson(self, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens (S, K) and log-probabilities of the teacher, computed once for every clip."""
        assert batch.teacher is not None, "a collator that teaches"
        rows = zip(batch.teacher["ids_BL"].cpu(), batch.teacher["mask_BL"].cpu(), strict=True)
        keys = [ids[mask.bool()].numpy().tobytes() for ids, mask in rows]
        if any(key not in self._lessons for key in keys):
            self._learn(head, batch.teacher, keys)
        kept = [self._lessons[key] for key in keys]
        device = batch.ids_BL.device
        tokens_SK = torch.cat([tokens for tokens, _ in kept]).to(device)
        return tokens_SK, torch.cat([values for _, values in kept]).to(device)

    def _learn(self, head: nn.Module, rows: dict[str, Tensor], keys: list[bytes]) -> None:
        """Let the decoder read the transcripts, and keep what it would answer."""
        assert self.distill is not None
        heat = self.distill.temperature
        embeds = self.model.get_input_embeddings()(rows["ids_BL"])
        hidden_SD, _ = self.answers(embeds, rows["mask_BL"], rows["labels_BL"])
        best = [
            (head(chunk).float() / heat).log_softmax(-1).topk(self.distill.top_k)
            for chunk in hidden_SD.split(chunk_size(head))
        ]
        values_SK, tokens_SK = (torch.cat(parts).cpu() for parts in zip(*best, strict=True))
        sizes = (rows["labels_BL"] != IGNORED).sum(1).tolist()
        lessons = zip(tokens_SK.split(sizes), values_SK.split(sizes), strict=True)
        self._lessons |= dict(zip(keys, lessons, strict=True))


def _divergence(
    head: nn.Module, heat: float, hidden_SD: Tensor, tokens_SK: Tensor, teacher_SK: Tensor
) -> Tensor:
    student_SV = (head(hidden_SD).float() / heat).log_softmax(-1)
    student_SK = with_rest(student_SV.gather(-1, tokens_SK))
    return F.kl_div(student_SK, with_rest(teacher_SK), reduction="sum", log_target=True)


def with_rest(log_probs_SK: Tensor) -> Tensor:
    """(S, K + 1): the log-probability of everything else in the last column."""
    rest = (1 - log_probs_SK.exp().sum(-1, keepdim=True)).clamp(min=1e-8).log()
    return torch.cat([log_probs_SK, rest], -1)
