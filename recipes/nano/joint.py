"""Joint training: encoder, projector and decoder together, on live features.

CTC teaches the encoder letters one by one; here it learns what the decoder needs to write words,
after both have met on cached frames. A share of pretraining rows keeps the decoder steerable, and
the character head's CTC loss keeps the encoder listening where the decoder could guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from recipes.nano import ctc
from recipes.nano.batching import Item
from recipes.nano.lm import (
    DecoderTask,
    RowBatch,
    answer_loss,
    answered,
    pad_answers,
    row_loss,
)
from tiny_audio.model.checkpoint import AudioLMForConditionalGeneration
from tiny_audio.model.features import Features


class JointBatch(NamedTuple):
    features: Features
    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor
    text_rows: RowBatch
    texts: list[str]


class JointTask(nn.Module):
    """Batches and loss; everything in `model` trains, and so does the head of `listener`."""

    def __init__(
        self,
        model: AudioLMForConditionalGeneration,
        text: DecoderTask,
        listener: ctc.CtcModel,
        ctc_weight: float = 0.3,
    ):
        super().__init__()
        self.model, self.head = model, listener.head
        self._text, self._listener = (text,), (listener,)  # in tuples: not second owners
        self.ctc_weight = ctc_weight
        model.audio_tower.freeze(False)
        model.language_model.requires_grad_(True)

    def batch(self, items: Sequence[Item], seed: int, step: int, text_rows: int) -> JointBatch:
        heard, tokenizer = ctc.collate(items, change_seed=step), self.model.tokenizer
        encoder, projector = self.model.config.encoder, self.model.config.projector
        pairs = zip(heard.features.lengths_B.tolist(), heard.texts, strict=True)
        prompts = [
            answered(text, projector.positions_for(encoder.unpooled_frames(steps)), tokenizer)
            for steps, text in pairs
        ]
        rows = self._text[0].rows(seed, step, text_rows)
        return JointBatch(heard.features, *pad_answers(prompts, tokenizer), rows, heard.texts)

    def loss(self, batch: JointBatch) -> tuple[Tensor, int]:
        """Cross-entropy over the answers' tokens plus weighted CTC, summed; the tokens' number."""
        audio = self.model.embed_audio(batch.features)
        embeds_BLD = self.model.embed_prompts(batch.ids_BL, audio.embedded)
        decoder: Any = self.model.language_model
        total, count = answer_loss(decoder, embeds_BLD, batch.mask_BL, batch.labels_BL)
        placeholder = self.model.config.audio_token_id or 0
        more, number = row_loss(decoder, batch.text_rows, placeholder)
        log_probs_BTC = self._listener[0].read(audio.frames_BTE)
        spelling, _ = ctc.spelling_loss(log_probs_BTC, audio.frame_lengths_B, batch.texts)
        return total + more + self.ctc_weight * spelling, count + number
