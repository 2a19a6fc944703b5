"""Joint training: encoder, projector and decoder together, on live features.

CTC teaches the encoder letters one by one; here it learns what the decoder needs to write words,
after both have met on cached frames. A share of pretraining rows keeps the decoder steerable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from tiny_audio.data.batching import Item
from tiny_audio.model.checkpoint import AudioLMForConditionalGeneration
from tiny_audio.model.encoder import Features
from tiny_audio.model.processing import pad_prompts
from tiny_audio.model.prompt import IGNORED, Turn, render, transcription_turns
from tiny_audio.train import ctc
from tiny_audio.train.lm import PROMPT, DecoderTask, RowBatch, answer_loss, lengthen, row_loss


class JointBatch(NamedTuple):
    features: Features
    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor
    text_rows: RowBatch


class JointTask(nn.Module):
    """Batches and loss; everything in `model` trains."""

    def __init__(self, model: AudioLMForConditionalGeneration, text: DecoderTask):
        super().__init__()
        self.model = model
        self._text = (text,)  # in a tuple: not a second owner of the decoder
        model.audio_tower.freeze(False)
        model.language_model.requires_grad_(True)

    def batch(self, items: Sequence[Item], seed: int, step: int, text_rows: int) -> JointBatch:
        heard = ctc.collate(items, change_seed=step)
        tokenizer: Any = self.model.tokenizer
        projector, encoder = self.model.config.projector, self.model.config.encoder
        prompts = []
        for steps, text in zip(heard.features.lengths_B.tolist(), heard.texts, strict=True):
            positions = projector.positions_for(encoder.unpooled_frames(steps))
            turns = [*transcription_turns(PROMPT), Turn("assistant", text)]
            prompts.append(render(turns, [positions], tokenizer, PROMPT))
        batch = pad_prompts(prompts, tokenizer.pad_token_id, "right")
        return JointBatch(
            heard.features,
            lengthen(batch["input_ids"], tokenizer.pad_token_id),
            lengthen(batch["attention_mask"], 0),
            lengthen(batch["labels"], IGNORED),
            self._text[0].rows(seed, step, text_rows),
        )

    def loss(self, batch: JointBatch) -> tuple[Tensor, int]:
        """Cross-entropy over the answers' tokens, summed, and their number."""
        audio = self.model.embed_audio(batch.features)
        embeds_BLD = self.model.fuse(batch.ids_BL, audio.audio_BPD, audio.lengths_B)
        decoder: Any = self.model.language_model
        total, count = answer_loss(decoder, embeds_BLD, batch.mask_BL, batch.labels_BL)
        placeholder = self.model.config.audio_token_id or 0
        more, number = row_loss(decoder, batch.text_rows, placeholder)
        return total + more, count + number
