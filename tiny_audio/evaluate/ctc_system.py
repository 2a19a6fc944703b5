"""A CTC head as a system to evaluate: what the encoder alone can write, without a language
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiny_audio.evaluate.systems import Answer
from tiny_audio.infer.ctc_head import CtcHead
from tiny_audio.infer.timestamps import Aligner, load_aligner
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.identity import weights_hash
from tiny_audio.model.modeling import AudioLM


class CtcSystem:
    """Answers clips with the best path of a head over an encoder's frames, written in lower case
    without punctuation. It takes no instructions.
    """

    def __init__(self, model: AudioLM, folder: Path | None = None, checkpoint: Path | None = None):
        self.aligner: Aligner = load_aligner(model, folder, checkpoint)

    def about(self) -> dict[str, Any]:
        """Return the kind, the head by its weights and sizes, and the encoder by its identity."""
        weights = weights_hash(self.head, set())
        return {"name": "ctc head", "weights": weights, **self.head.config.to_dict()}

    @property
    def head(self) -> CtcHead:
        return self.aligner.head

    @torch.inference_mode()
    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        """Answer each clip by itself; a batch would give the same texts and save little time."""
        if instructions := sorted({text for text in asked if text}):
            raise ConfigError(
                f"A CTC head only transcribes; it cannot be asked {instructions[0]!r}."
            )
        return [self.write(clip) for clip in clips]

    def write(self, samples_N: Tensor) -> Answer:
        frames_TE = self.aligner.frames(samples_N)
        lengths_B = torch.tensor([len(frames_TE)], device=frames_TE.device)
        text = self.head.transcribe(frames_TE[None], lengths_B)[0]
        return Answer(text, "ok" if text else "no_speech")
