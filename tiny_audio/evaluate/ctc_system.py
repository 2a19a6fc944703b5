"""CTC heads as systems to evaluate: what is written without the language model, by the encoder
alone (characters) or by the encoder and the projector (tokens).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiny_audio.evaluate.systems import Answer
from tiny_audio.infer.ctc_head import CtcHead
from tiny_audio.infer.timestamps import Aligner, load_aligner
from tiny_audio.infer.token_head import audio_id, best_path, load_token_head
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.identity import weights_hash
from tiny_audio.model.modeling import AudioLM


class HeadSystem(ABC):
    """Answers clips with the best path of a head. It takes no instructions."""

    @torch.inference_mode()
    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        """Answer each clip by itself; a batch would give the same texts and save little time."""
        if instructions := sorted({text for text in asked if text}):
            raise ConfigError(
                f"A CTC head only transcribes; it cannot be asked {instructions[0]!r}."
            )
        texts = map(self.write, clips)
        return [Answer(text, "ok" if text else "no_speech") for text in texts]

    @abstractmethod
    def write(self, samples_N: Tensor) -> str:
        """Return the text of one clip."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return the kind, and all that the texts depend on."""


class CtcSystem(HeadSystem):
    """The character head over an encoder's frames: lower case without punctuation."""

    def __init__(self, model: AudioLM, folder: Path | None = None, checkpoint: Path | None = None):
        self.aligner: Aligner = load_aligner(model, folder, checkpoint)

    def about(self) -> dict[str, Any]:
        weights = weights_hash(self.head, set())
        return {"name": "ctc head", "weights": weights, **self.head.config.to_dict()}

    @property
    def head(self) -> CtcHead:
        return self.aligner.head

    def write(self, samples_N: Tensor) -> str:
        frames_TE = self.aligner.frames(samples_N)
        lengths_B = torch.tensor([len(frames_TE)], device=frames_TE.device)
        return self.head.transcribe(frames_TE[None], lengths_B)[0]


class TokenSystem(HeadSystem):
    """The token head over audio embeddings: the decoder's tokens, and none of its language."""

    def __init__(self, model: AudioLM, checkpoint: Path | None = None):
        head = load_token_head(model, checkpoint)
        if head is None:
            raise ConfigError(
                "The model has no token head; evaluate its character head: ctc:MODEL."
            )
        self.model, self.head = model, head

    def about(self) -> dict[str, Any]:
        weights = weights_hash(self.head, set())
        return {"name": "token head", "weights": weights, "audio": audio_id(self.model)}

    def write(self, samples_N: Tensor) -> str:
        tokens = best_path(self.head, self.model, samples_N)
        return self.model.tokenizer.decode(tokens, skip_special_tokens=True).strip()
