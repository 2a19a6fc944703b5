"""A training step as it is written first, from our own modules: what the others are compared with.

Every clip is padded to 30 s, encoded in every step and projected whole; logits exist for all
positions, in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.data.mixture import Visit
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.encoder import empty_encoder
from tiny_audio.model.modeling import AudioLM
from tiny_audio.train import stages
from tiny_audio.train.batch import Batch, Collator
from tiny_audio.train.hardware import autocast
from tiny_audio.train.recipe import Stage

WINDOW_S = 30.0  # Whisper's
FRAMES_PER_S = 50
BF16_STEP = 2**-8  # of numbers up to 1: nano's positions are stored in bfloat16


def with_long_window(model: AudioLM, stage: Stage) -> AudioLM:
    """The same modules and weights, with an encoder that takes 30 s and attends to all of them.

    Whisper's positions are sinusoids, so the longer table continues the shorter one.
    """
    known = model.config.encoder
    architecture = {**known.architecture, "max_source_positions": int(WINDOW_S * FRAMES_PER_S)}
    config = replace(known, architecture=architecture, window="full")
    encoder, weights = empty_encoder(config), model.audio_tower.model.state_dict()
    own: Any = encoder.model.embed_positions
    short = weights["embed_positions.weight"]
    long = own.weight.data.to(short)
    if not torch.allclose(long[: len(short)], short, atol=BF16_STEP):
        raise ValueError("This encoder's positions are not sinusoids; they cannot be continued.")
    positions = torch.cat([short, long[len(short) :]])
    encoder.model.load_state_dict({**weights, "embed_positions.weight": positions})
    encoder.to(device=model.device, dtype=short.dtype)
    whole = copy.deepcopy(model.config)
    whole.audio_config = config.to_dict()
    parts = encoder, model.projector, model.language_model
    wide = AudioLM(*parts, tokenizer=model.tokenizer, config=whole)
    stages.begin(wide, stage)
    return wide


class PlainCollator:
    """Clips padded with silence before anything looks at them: all of it is sound, and a prompt
    has positions for all of it. `window_s=0` leaves them as they are.
    """

    def __init__(self, collator: Collator, window_s: float):
        self.collator, self.size = collator, int(window_s * SAMPLE_RATE)

    def __call__(self, visits: Sequence[Visit]) -> Batch:
        heard = [self.collator.audio_of(visit) for visit in visits]
        padded = [F.pad(clip, (0, max(0, self.size - len(clip)))) for clip in heard]
        return self.collator.collate(padded, visits)


class PlainStep:
    """The encoder in every step, transformers' own mean loss (float32 logits of all positions),
    AdamW.
    """

    def __init__(self, model: AudioLM, stage: Stage):
        self.model = model.train()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=stage.learning_rate["projector"])

    def loss(self, batch: Batch) -> Tensor:
        batch = batch.to(self.model.device)
        audio = self.model.embed_audio(batch.audio)
        made: Any = self.model.language_model(
            inputs_embeds=self.model.fuse(batch.ids_BL, audio.audio_BPD, audio.lengths_B),
            attention_mask=batch.mask_BL,
            labels=batch.labels_BL,
            use_cache=False,
        )
        return made.loss

    def __call__(self, batch: Batch) -> float:
        with autocast(True, self.model.device.type):
            loss = self.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()
