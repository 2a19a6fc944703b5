"""Following one clip through a model: every tensor of the path, with its place in time.

```python
from tiny_audio import load
from tiny_audio.scope.trace import trace

seen = trace(load("nano"), "samples/01.flac")
print(seen.frames.values_SC.shape, seen.text, seen.nearest.tokens[0])
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tiny_audio.infer.request import KEEP_ALL, Request
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.errors import AudioError, Reason
from tiny_audio.model.features import MIN_SAMPLES, log_mel
from tiny_audio.model.identity import is_trained
from tiny_audio.model.modeling import AudioLM, Embedded
from tiny_audio.model.prepare import rendered
from tiny_audio.model.prompt import transcription_turns
from tiny_audio.model.sources import INSIDE
from tiny_audio.scope.trace.layers import recorded
from tiny_audio.scope.trace.timeline import Clock, Span, Track, joined
from tiny_audio.scope.trace.writing import Answer, answer, token_text

MOST_S = 300.0  # five minutes of sound are already a page of 20 MB
NEAREST = 3
TABLE_ROWS = 8192  # of the embedding table at once: a whole one in float32 may be gigabytes
MEL_BINS = 80  # shown where the encoder itself takes the waveform
FAMILIES = {
    "whisper": "Whisper",
    "hubert": "HuBERT",
    "wav2vec2": "wav2vec 2.0",
    "wavlm": "WavLM",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "smollm3": "SmolLM3",
}


@dataclass(frozen=True)
class Described:
    """A description of the model. `trained` is None where the checkpoint does not say it."""

    name: str
    encoder: str
    projector: str
    decoder: str
    hears_mel: bool
    trained: bool | None


@dataclass(frozen=True)
class Nearest:
    """The tokens whose embeddings point most in the direction of each audio embedding."""

    ids_PK: Tensor
    cosines_PK: Tensor
    tokens: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Trace:
    """Everything that a model computed from a clip. No value is computed from padding."""

    source: str
    samples_N: Tensor
    model: Described
    spans: tuple[Span, ...]  # the encoder's windows
    log_mel: Track
    frames: Track
    stages: tuple[Track, ...]
    audio: Track
    nearest: Nearest
    answers: tuple[Answer, ...]  # one per prompt
    text_norms_V: Tensor  # length of every row of the decoder's embedding table

    @property
    def duration_s(self) -> float:
        return len(self.samples_N) / SAMPLE_RATE

    @property
    def text(self) -> str:
        """Return the text that was written for all prompts."""
        return " ".join(one.text for one in self.answers if one.text)

    @property
    def audio_norms(self) -> Tensor:
        """Return the length of every audio embedding."""
        return self.audio.values_SC.norm(dim=-1)


@torch.no_grad()
def trace(
    model: AudioLM,
    source: Any,
    *,
    prompt: str | None = None,
    name: str = "model",
    transcriber: Transcriber | None = None,
    sampling_rate: int | None = None,
    **options: Any,
) -> Trace:
    """Follow any source of audio, of up to five minutes, through `model`.

    `prompt` replaces the model's own instruction, `name` is what the page calls the model,
    `transcriber` writes the tokens (one with the package's CTC heads unless given), and `options`
    are those of `load_audio`. Long audio is cut as `Transcriber` cuts it. Raises
    `AudioError`.
    """
    transcriber = transcriber or Transcriber(model)
    audio = load_audio(source, sampling_rate, **options)
    if audio.duration_s > MOST_S:
        raise AudioError(
            f"{audio.source} is {audio.duration_s:.0f} s long and a trace holds {MOST_S:.0f} s. "
            f"Cut out what matters: ffmpeg -ss 60 -t 30 -i FILE part.wav",
            Reason.TOO_LONG,
        )
    encoded: list[_Encoded] = []
    answers: list[Answer] = []
    for window in transcriber.windows(audio, None, []):
        (window,) = transcriber.cleared([window], prompt)
        inside = _listen(model, window)
        first = sum(len(one.audio.values_SC) for one in encoded)
        answers.append(_answer(model, transcriber, window, inside, first, prompt))
        encoded += inside
    names = [track.name for track in encoded[0].stages]
    embeddings = joined([one.audio for one in encoded])
    nearest, text_norms_V = _compare(model, embeddings.values_SC)
    return Trace(
        source=audio.source,
        samples_N=audio.samples,
        model=_describe(model, name),
        spans=tuple(one.span for one in encoded),
        log_mel=joined([one.log_mel for one in encoded]),
        frames=joined([one.frames for one in encoded]),
        stages=tuple(joined([one.stages[at] for one in encoded]) for at in range(len(names))),
        audio=embeddings,
        nearest=nearest,
        answers=tuple(answers),
        text_norms_V=text_norms_V,
    )


@dataclass(frozen=True)
class _Encoded:
    """One window on its way to the decoder."""

    span: Span
    log_mel: Track
    frames: Track
    stages: list[Track]
    audio: Track


def _listen(model: AudioLM, window: Window) -> list[_Encoded]:
    """Encode a window of the file; a model with long prompts cuts it once more."""
    lengths = model.config.windows(len(window.samples_N))
    encoded, start = [], window.start
    for samples_N in window.samples_N.split(lengths):
        encoded.append(_encode(model, samples_N, Span(start, len(samples_N))))
        start += len(samples_N)
    return encoded


def _encode(model: AudioLM, samples_N: Tensor, span: Span) -> _Encoded:
    """Compute features, frames, projector and audio embeddings of one clip, without padding."""
    clock, encoder = Clock(model.config), model.audio_tower
    features = encoder.features([samples_N.to(model.device)])
    if encoder.config.takes_mel:
        mel_FM = features.values[0, :, : int(features.lengths_B[0])]
    else:
        mel_FM = log_mel(F.pad(samples_N, (0, max(0, MIN_SAMPLES - len(samples_N)))), MEL_BINS)
    with recorded(model.projector) as inside:
        made = model.embed_audio(features)
    num_frames = int(made.frame_lengths_B[0])
    stages = [clock.stage(span, name, "", values, num_frames) for name, values in inside.items()]
    return _Encoded(
        span,
        clock.mel(span, mel_FM.T),
        clock.frames(span, made.frames_BTE[0]),
        stages,
        clock.stage(span, "audio embeddings", "audio_BPD", made.audio_BPD[0], num_frames),
    )


def _answer(
    model: AudioLM,
    transcriber: Transcriber,
    window: Window,
    encoded: list[_Encoded],
    first_position: int,
    instruction: str | None,
) -> Answer:
    """Compute prompt, prompt embeddings and tokens of one prompt."""
    turns = transcription_turns(model.config.prompt, instruction)
    (prompt,) = rendered([turns], [[window.samples_N]], model.tokenizer, model.config)
    ids = torch.tensor([prompt.ids], device=model.device)
    audio_1PD = torch.cat([one.audio.values_SC for one in encoded])[None].to(model.device)
    lengths_1 = torch.tensor([audio_1PD.shape[1]], device=model.device)
    embeds_1LD = model.embed_prompts(ids, Embedded(audio_1PD, lengths_1))
    request = Request(instruction, min_logprob=KEEP_ALL)
    (written,) = transcriber.write_prompts([window], embeds_1LD, torch.ones_like(ids), request)
    return answer(model, prompt, embeds_1LD, written, first_position)


def _compare(model: AudioLM, audio_PD: Tensor) -> tuple[Nearest, Tensor]:
    """Compare audio embeddings with the decoder's own: the nearest by cosine, and all lengths."""
    table: Any = model.get_input_embeddings()
    directions = F.normalize(audio_PD, dim=-1).to(model.device)
    found, norms = [], []
    for first, rows in enumerate(table.weight.detach().split(TABLE_ROWS)):
        cosines_PV = directions @ F.normalize(rows.float(), dim=-1).T
        best = cosines_PV.topk(min(NEAREST, len(rows)), dim=-1)
        found.append((best.values.cpu(), best.indices.cpu() + first * TABLE_ROWS))
        norms.append(rows.float().norm(dim=-1).cpu())
    cosines, ids = (torch.cat(parts, dim=-1) for parts in zip(*found, strict=True))
    best = cosines.topk(min(NEAREST, cosines.shape[-1]), dim=-1)
    ids_PK = ids.gather(-1, best.indices)
    tokens = tuple(
        tuple(token_text(model.tokenizer, number) for number in row) for row in ids_PK.tolist()
    )
    return Nearest(ids_PK, best.values, tokens), torch.cat(norms)


def _describe(model: AudioLM, name: str) -> Described:
    config = model.config
    encoder, projector, decoder = model.audio_tower, model.projector, model.language_model
    return Described(
        name=name,
        encoder=(
            f"{_made_by(config.encoder.source, config.encoder.family)}, {_count(encoder)}, "
            f"E = {config.encoder.width}"
        ),
        projector=f"{config.projector.kind}, {_count(projector)}",
        decoder=(
            f"{_made_by(config.language_model.source, config.text_config.model_type)}, "
            f"{_count(decoder)}, D = {projector.decoder_dim}"
        ),
        hears_mel=config.encoder.takes_mel,
        trained=is_trained(model),
    )


def _made_by(source: str, family: str) -> str:
    """Return the sources of a part's weights and of its architecture, which may differ."""
    architecture = f"{FAMILIES.get(family, family)}'s architecture"
    if source.startswith(INSIDE) or not source:
        return f"the model's own, {architecture}"
    return f"{PurePath(source).name}, {architecture}"


def _count(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,} parameters"
