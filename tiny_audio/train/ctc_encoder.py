"""Training an encoder together with its CTC head, on live sound that is changed at every visit.

    tiny-audio train-head whisper_tiny --encoder FOLDER --data clips.jsonl --encoder-rate 2e-4

A language model can guess what a weak encoder does not hear, and then teaches it little; a CTC
head cannot. Beside what `head.py` writes there is encoder/, in the Hub's layout: `model.encoder`
of a recipe takes it, and the head belongs to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.data.augment import Augment
from tiny_audio.data.mixture import Visit
from tiny_audio.infer.ctc_head import CtcHead, encoder_id
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import AudioError, ConfigError
from tiny_audio.model.features import Features
from tiny_audio.model.saving import write_encoder
from tiny_audio.train.batch import played
from tiny_audio.train.ctc import LENGTH_STEP, colour, mask_patches, stretch_pitch
from tiny_audio.train.ctc_clips import SpelledBatch, SpelledClips, spelled
from tiny_audio.train.stages import train_part

CHANGED = Augment(speed=0.5)  # with other mel axes on top, more was too much (benchmarks)
MASKED_SHARE = 0.5  # of the batches; in all of them, training is slower at first


class LiveClips(SpelledClips):
    """The clips of a recipe, encoded anew at every visit by the encoder that trains."""

    def listen(self) -> None:
        """Keep no frames; only validation clips that can be used stay."""
        if "encoder" in self.model.config.lora:
            raise ConfigError(
                "This checkpoint has LoRA on its encoder, and such an encoder is not written "
                "alone. Leave it frozen (--encoder-rate 0), or begin with the one it came from."
            )
        train_part(self.model, "encoder")
        self.validation = [e for e in self.validation if self.samples(Visit(e, 0, 0)) is not None]

    def samples(self, visit: Visit, how: Augment | None = None) -> Tensor | None:
        """Return samples (N,), or None of an unusable clip, which is counted."""
        try:
            most = self.model.config.encoder.max_samples
            return torch.from_numpy(np.ascontiguousarray(played(visit, how, most)))
        except AudioError as error:
            self.found.dropped.add(error.reason, visit.example.where)
            return None

    def batch(self, visits: Sequence[Visit]) -> SpelledBatch | None:
        pairs = [(visit, self.samples(visit, self.recipe.data.augment)) for visit in visits]
        usable = [(visit, clip) for visit, clip in pairs if clip is not None]
        if not usable:
            return None
        made = self.features([clip for _, clip in usable])
        if self.recipe.data.augment is not None and self.model.config.encoder.takes_mel:
            change(made, np.random.default_rng(visits[0].seed))
        return spelled(made, [visit for visit, _ in usable])

    def features(self, clips: Sequence[Tensor]) -> Features:
        made = features(self.model.config.encoder, clips)
        extra = -made.values.shape[-1] % LENGTH_STEP  # few shapes: kernels are compiled for each
        return Features(F.pad(made.values, (0, extra)), made.lengths_B)

    def recorded(self, visits: Sequence[Visit]) -> Features:
        clips = [self.samples(visit) for visit in visits]
        return self.features([clip for clip in clips if clip is not None])

    def frames(self, audio: Any) -> tuple[Tensor, Tensor]:
        return self.model.audio_tower(Features(*super().frames(audio)))

    def trained(self, head: CtcHead) -> tuple[nn.Module, dict[str, float]]:
        parts = nn.ModuleDict({"encoder": self.model.audio_tower, "head": head})
        return parts, {f"{part}.": r for part, r in self.recipe.stage.learning_rate.items()}

    def write(self, head: CtcHead, folder: Path) -> None:
        """Write the encoder, and the head that belongs to it."""
        shutil.rmtree(folder / "encoder", ignore_errors=True)
        write_encoder(self.model.audio_tower, folder / "encoder", None)
        head.config = replace(head.config, encoder=encoder_id(self.model.audio_tower))
        super().write(head, folder)


def change(made: Features, rng: np.random.Generator) -> None:
    """Imitate other voices, microphones and gaps in log-mel features, in place."""
    stretch_pitch(made, rng)
    colour(made, rng)
    if rng.random() < MASKED_SHARE:
        mask_patches(made, rng)
