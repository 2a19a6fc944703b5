"""Other people's recognisers in the same harness; here names become systems.

nano, a folder, a Hub id    one of our models
hf:ID                       any ASR model of transformers (CTC or encoder-decoder), or its folder
openai:BASE_URL#MODEL       any server that speaks OpenAI's transcription API
ctc:MODEL, ctc:FOLDER#MODEL the encoder of one of our models with its own CTC head, or with another
tokens:MODEL                encoder and projector of one of our models with its token head
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import soxr
import torch
import transformers
from torch import Tensor

from tiny_audio.evaluate.ctc_system import CtcSystem, TokenSystem
from tiny_audio.evaluate.endpoint import Endpoint
from tiny_audio.evaluate.systems import Answer, OurModel, System, failure
from tiny_audio.infer.transcriber import PLAIN, Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.identity import weights_hash
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import load

WHISPER_WINDOW_S = 30.0


def system(
    name: str,
    device: str = "cpu",
    request: Request = PLAIN,
    head: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> System:
    """Load the system that a name stands for; see the module's docstring for the names. `request`
    and `head` say how our models decode.
    """
    kind, colon, rest = name.partition(":")
    if colon and kind in RIVALS:
        if not rest:
            raise ConfigError(f"{name!r} names no model. Expected {RIVALS[kind]}.")
        beams = request.beams if kind == "hf" else None
        if request != replace(PLAIN, beams=beams) or head or dtype != torch.float32:
            raise ConfigError(
                f"{name} decodes in its own way: --beams (except with hf:), --ctc-weight, "
                f"--min-logprob, --whole and --dtype are for our models, and so is --aligner (a "
                f"head alone is ctc:FOLDER#MODEL)."
            )
        return HfPipeline(rest, device, beams) if beams else OPENERS[kind](rest, device)
    transcriber = Transcriber.from_pretrained(name, head=head, device=device, dtype=dtype)
    transcriber.check(request)
    return OurModel(name, transcriber, request)


RIVALS = {
    "hf": "hf:ID or hf:FOLDER, for example hf:openai/whisper-tiny.en",
    "openai": "openai:BASE_URL#MODEL, for example openai:http://localhost:8000/v1#whisper-1",
    "ctc": "ctc:MODEL or ctc:FOLDER#MODEL, for example ctc:nano",
    "tokens": "tokens:MODEL, for example tokens:tiny",
}


def _address(rest: str) -> tuple[str, str]:
    url, _, model = rest.rpartition("#")
    if not url or not model:
        raise ConfigError(f"'openai:{rest}' names no model. Expected {RIVALS['openai']}.")
    return url, model


def _ctc(rest: str, device: str) -> CtcSystem:
    folder, _, name = rest.rpartition("#")
    model, checkpoint = _opened(name, device)
    return CtcSystem(model, Path(folder) if folder else None, checkpoint)


def _opened(name: str, device: str) -> tuple[AudioLM, Path | None]:
    """Return the model, and its folder if it is one, where its heads may lie."""
    return load(name, device=device).eval(), Path(name) if Path(name).is_dir() else None


class HfPipeline:
    """An ASR model of transformers, given samples (never a file, so ffmpeg is not needed).

    Clips are answered one by one: many CTC models were made to run without a mask, and padding in a
    batch would change their answers. Whether generation was cut off, the pipeline does not say.
    `beams` is the width of a beam search; None is the model's own way. On a CPU weights of half
    precision become float32: few processors compute with halves, and others are slow at it.
    """

    def __init__(self, source: str, device: str = "cpu", beams: int | None = None) -> None:
        self.source, self.device = source, device
        self.generating = {"generate_kwargs": {"num_beams": beams}} if beams else {}
        try:
            self.pipeline = transformers.pipeline(
                "automatic-speech-recognition",
                model=source,
                device=device,
                dtype=torch.float32 if device == "cpu" else "auto",
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{source!r} cannot be loaded as a speech recogniser: {error} "
                f"Expected {RIVALS['hf']}."
            ) from error
        if not isinstance(self.pipeline, transformers.AutomaticSpeechRecognitionPipeline):
            raise ConfigError(f"{source!r} is a model of this library; name it without hf:.")
        self.rate = int(self.pipeline.feature_extractor.sampling_rate)

    def about(self) -> dict[str, Any]:
        model = self.pipeline.model
        return {
            "name": f"hf:{self.source}",
            "kind": "transformers",
            "architecture": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights_sha256": weights_hash(model, set()),
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "device": self.device,
            **self.generating,
            "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        }

    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        return [self._one(clip, question) for clip, question in zip(clips, asked, strict=True)]

    def _one(self, clip: Tensor, question: str) -> Answer:
        if question:
            return Answer(None, "error", "a recogniser of transformers takes no prompt")
        samples = clip.numpy()
        if self.rate != SAMPLE_RATE:
            samples = soxr.resample(samples, SAMPLE_RATE, self.rate)
        audio = {"raw": samples, "sampling_rate": self.rate}
        long = (
            self.pipeline.type == "seq2seq_whisper" and len(clip) > WHISPER_WINDOW_S * SAMPLE_RATE
        )
        try:
            times = {"return_timestamps": True} if long else {}
            written = self.pipeline(audio, **times, **self.generating)
        except (RuntimeError, ValueError) as error:
            return failure(error)
        text = str(written["text"]).strip()
        return Answer(text, "ok" if text else "no_speech")


OPENERS: dict[str, Callable[[str, str], System]] = {
    "hf": HfPipeline,
    "openai": lambda rest, device: Endpoint(*_address(rest)),
    "ctc": _ctc,
    "tokens": lambda rest, device: TokenSystem(*_opened(rest, device)),
}
