"""The systems that can be evaluated: our models, other models, servers, a CTC head. All answer
clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tiny_audio import __version__
from tiny_audio.evaluate.predictions import Outcome
from tiny_audio.infer.jobs import Failed
from tiny_audio.infer.transcriber import PLAIN, Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.decoding import DecodingConfig
from tiny_audio.model.errors import TinyAudioError
from tiny_audio.model.generation import FinishReason
from tiny_audio.model.identity import tokenizer_hash, weights_hash
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import prompt_identity

OUTCOMES: dict[FinishReason, Outcome] = {"stop": "ok", "length": "cut_off", "loop": "loop"}


class Answer(NamedTuple):
    """An answer to one clip; `text` is None where the system failed, and `error` says why."""

    text: str | None
    outcome: Outcome
    error: str = ""
    confidence: float | None = None


class System(Protocol):
    """Anything that answers clips."""

    def about(self) -> dict[str, Any]:
        """Return what a result file says of the system: its name, hashes and versions."""

    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        """Return one answer for each clip of samples_N; `asked` is "" for its own instruction."""


@runtime_checkable
class MultiClipSystem(Protocol):
    """A system that answers questions about several clips, too."""

    def ask(self, clips: Sequence[Tensor], asked: str) -> Answer:
        """Return the answer to one question about clips of samples_N, in their order."""


class OurModel:
    """A model of this library, as `transcribe` uses it."""

    def __init__(self, name: str, transcriber: Transcriber, request: Request = PLAIN):
        self.name, self.transcriber, self.request = name, transcriber, request

    @property
    def model(self) -> AudioLM:
        return self.transcriber.model

    def about(self) -> dict[str, Any]:
        """Return hashes of all weights and of the prompt, and how the model computes here."""
        model = self.model
        parts = ("audio_tower", "projector", "language_model")
        hashes = {part: weights_sha256(model.get_submodule(part)) for part in parts}
        parameter = next(model.language_model.parameters())
        return {
            "name": readable(self.name),
            "kind": "tiny-audio",
            "checkpoint": {**hashes, "tokenizer": tokenizer_hash(model.tokenizer)},
            "prompt_sha256": prompt_identity(model.config.prompt, model.tokenizer),
            "decode": self.decoding(),
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": parameter.device.type,
            "versions": {
                "tiny-audio": __version__,
                **{name: version(name) for name in ("torch", "transformers")},
            },
        }

    def decoding(self) -> dict[str, Any]:
        """Return the settings of decoding that differ from the usual ones."""
        how, usual = self.transcriber.decoding(self.request), DecodingConfig()
        found: dict[str, Any] = {"method": "beam" if how.beams > 1 else "greedy"}
        if how.beams > 1:
            found["beams"] = how.beams
        if how.ctc_weight:
            hashes = [weights_hash(head.module, set()) for head in self.transcriber.heads]
            found |= {"ctc_weight": how.ctc_weight, "ctc_head": "+".join(hashes)}
        if how.min_logprob != usual.min_logprob:
            found["min_logprob"] = how.min_logprob
        return found | ({"windows": "whole"} if self.request.whole else {})

    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        """Transcribe each clip as `transcribe` does; one that cannot be answered fails alone."""
        answers = dict[int, Answer]()
        for prompt in dict.fromkeys(asked):
            numbers = [n for n, one in enumerate(asked) if one == prompt]
            answers |= zip(numbers, self._answer([clips[n] for n in numbers], prompt), strict=True)
        return [answers[n] for n in range(len(clips))]

    def ask(self, clips: Sequence[Tensor], asked: str) -> Answer:
        """Answer a question about several clips as `tiny-audio ask` does."""
        try:
            one = self.transcriber.ask(asked or None, list(clips), sampling_rate=SAMPLE_RATE)
        except TinyAudioError as error:
            return failure(error)
        return Answer(one.text, OUTCOMES[one.finish_reason])

    def _answer(self, clips: Sequence[Tensor], prompt: str) -> list[Answer]:
        request = replace(self.request, prompt=prompt)
        try:
            made = list(self.transcriber.transcribe_many(clips, request, sampling_rate=SAMPLE_RATE))
        except TinyAudioError as error:  # the question itself
            return [failure(error)] * len(clips)
        return [
            failure(one.error)
            if isinstance(one, Failed)
            else Answer(one.text, one.outcome, confidence=one.confidence)
            for one in made
        ]


def readable(given: str) -> str:
    """Return what results call a model or a dataset: the last two parts of a path."""
    return "/".join(Path(given).parts[-2:]) if Path(given).exists() else given


def failure(error: Exception) -> Answer:
    """Return the answer of a clip that could not be answered."""
    return Answer(None, "error", str(error) or type(error).__name__)


def weights_sha256(module: nn.Module) -> str:
    """Return a hash of names, shapes and values as bfloat16, the same in any dtype."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16)
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
