"""Step 6, put together: conversations and their clips become prompt embeddings.

`prepare` is the whole way, and inference takes it. Its two halves are `lay_out`, which renders and
pads and needs no weights, and `AudioLM.embed_prompts`, which computes. Training lays out in its
collator and embeds in its step; the processor of transformers lays out and `AudioLM.forward`
embeds. There is no other way to a prompt embedding.

Prompts are padded on the left to write from them and on the right to train on them; features are
padded behind their clips; both carry masks or lengths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from .audio import SAMPLE_RATE
from .configuration import AudioLMConfig
from .encoder import features
from .features import Features, Frames, pad_frames
from .modeling import AudioLM, Embedded
from .prompt import IGNORED, Prompt, Turn, render

Side = Literal["left", "right"]
# Few shapes: steps, frames and ids come in multiples, for oneDNN compiles kernels for every shape.
STEPS, FRAMES, IDS = 40, 64, 16
# The shortest clip of a group is this share of its longest, so at most a fifth of it is padding.
LIKENESS = 0.8
GROUP_S = 120.0  # of sound in a group, padding counted; one window may be more


@dataclass(frozen=True)
class Prompts:
    """Padded prompts and the audio of their clips: all that a model needs to embed them."""

    audio: Features | Frames | None
    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor

    def to(self, device: Any) -> Self:
        """Return the same on a device."""
        audio = self.audio
        if audio is not None:
            audio = type(audio)(*(t.to(device, non_blocking=True) for t in audio))
        moved = {n: getattr(self, n).to(device) for n in ("ids_BL", "mask_BL", "labels_BL")}
        return replace(self, audio=audio, **moved)


def prepare(
    model: AudioLM, turns: Sequence[Sequence[Turn]], clips: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Turn conversations and their clips into prompt embeddings (B, L, D) and their mask (B, L).

    A clip is samples_N at 16 kHz or its frames (T, E), of all clips alike. Samples are encoded in
    groups of like length.
    """
    prompts = lay_out(turns, clips, model.tokenizer, model.config)
    audio: Any = prompts.audio
    if isinstance(audio, Features):
        audio = embed_by_length(model, audio)  # moved to the model's device group by group
    elif audio is not None:
        audio = Frames(*(t.to(model.device) for t in audio))
    ids_BL, mask_BL = prompts.ids_BL.to(model.device), prompts.mask_BL.to(model.device)
    return model.embed_prompts(ids_BL, audio), mask_BL


# Layout, without weights ----------------------------------------------------------------------


def lay_out(
    turns: Sequence[Sequence[Turn]],
    clips: Sequence[Sequence[Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    config: AudioLMConfig,
    side: Side = "left",
    few_shapes: bool = False,
) -> Prompts:
    """Render conversations with slots for their clips, and pad prompts and audio."""
    prompts = rendered(turns, clips, tokenizer, config)
    audio = pad_audio([clip for of_prompt in clips for clip in of_prompt], config, few_shapes)
    pad = tokenizer.pad_token_id or 0  # it is always masked, so any id does
    rows = pad_prompts(prompts, pad, side, IDS if few_shapes else 1)
    return Prompts(audio, rows["input_ids"], rows["attention_mask"], rows["labels"])


def rendered(
    turns: Sequence[Sequence[Turn]],
    clips: Sequence[Sequence[Tensor]],
    tokenizer: PreTrainedTokenizerBase,
    config: AudioLMConfig,
) -> list[Prompt]:
    """Render every conversation, with as many positions as each of its clips takes."""
    positions = [
        [
            config.projector.positions_for(len(clip))
            if clip.ndim == 2
            else config.stretches(len(clip))
            for clip in of_prompt
        ]
        for of_prompt in clips
    ]
    return [
        render(conversation, taken, tokenizer, config.prompt)
        for conversation, taken in zip(turns, positions, strict=True)
    ]


def pad_audio(
    clips: Sequence[Tensor], config: AudioLMConfig, few_shapes: bool = False
) -> Features | Frames | None:
    """Pad frames, or make features of every window of the clips' samples and pad them."""
    if not clips:
        return None
    if clips[0].ndim == 2:
        return pad_frames(clips, FRAMES if few_shapes else 1)
    windows = [window for clip in clips for window in clip.split(config.windows(len(clip)))]
    values, lengths_B = features(config.encoder, windows)
    extra = -values.shape[-1] % (STEPS if few_shapes else 1)
    return Features(F.pad(values, (0, extra)), lengths_B)


def pad_prompts(
    prompts: Sequence[Prompt], pad_id: int, side: Side, multiple: int = 1
) -> dict[str, Tensor]:
    """Pad prompts to input_ids, attention_mask and labels (B, L), L a `multiple`."""
    longest = max(len(prompt.ids) for prompt in prompts)
    longest += -longest % multiple

    def padded(values: Sequence[int], fill: int) -> list[int]:
        extra = [fill] * (longest - len(values))
        return [*extra, *values] if side == "left" else [*values, *extra]

    return {
        "input_ids": torch.tensor([padded(p.ids, pad_id) for p in prompts]),
        "attention_mask": torch.tensor([padded([1] * len(p.ids), 0) for p in prompts]),
        "labels": torch.tensor([padded(p.labels, IGNORED) for p in prompts]),
    }


# Clips of different lengths with little padding -----------------------------------------------


def embed_by_length(model: AudioLM, features: Features) -> Embedded:
    """Return the audio embeddings of `model.embed_audio`, computed in groups of like length.

    Frames are forgotten as soon as they are audio embeddings, so an hour in windows of 30 s takes
    little more memory than two minutes. `features` may lie on another device than the model.
    """
    steps_per_s = SAMPLE_RATE / model.config.encoder.record.hop
    groups = list(alike(features.lengths_B, int(GROUP_S * steps_per_s)))
    embedded, lengths = [], []
    for rows_B in groups:
        steps_B = features.lengths_B[rows_B]
        values = features.values[rows_B][..., : int(steps_B.max())]
        group = model.embed_audio(Features(values.to(model.device), steps_B.to(model.device)))
        embedded.append(group.audio_BPD)
        lengths.append(group.lengths_B)
    longest = max(audio_BPD.shape[1] for audio_BPD in embedded)
    padded = [F.pad(audio, (0, 0, 0, longest - audio.shape[1])) for audio in embedded]
    back_B = torch.cat(groups).argsort()
    return Embedded(torch.cat(padded)[back_B], torch.cat(lengths)[back_B])


def alike(lengths_B: Tensor, most: int) -> Iterator[Tensor]:
    """Return row numbers in groups, longest clips first; a group takes `most` steps or one clip."""
    order_B = lengths_B.argsort(descending=True)
    sorted_lengths = lengths_B[order_B].tolist()
    start = 0
    for place, length in enumerate(sorted_lengths):
        longest = sorted_lengths[start]
        if length < LIKENESS * longest or longest * (place - start + 1) > max(most, longest):
            yield order_B[start:place]
            start = place
    yield order_B[start:]
