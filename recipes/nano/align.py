"""Alignment: a projector (and the decoder, if wanted) learns on frames of the frozen encoder.

Frames are computed once, from augmented clips, and kept in bfloat16; training then costs only the
decoder. The cut of four frames into one position is varied by dropping up to three frames.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import safe_open, save_file
from torch import Tensor, nn
from transformers import Qwen3ForCausalLM

from recipes.nano.ctc import CtcBatch
from recipes.nano.lm import (
    PROMPT,
    DecoderTask,
    RowBatch,
    answer_loss,
    answered,
    pad_answers,
    row_loss,
)
from tiny_audio.files import whole
from tiny_audio.model.checkpoint import AudioLMForConditionalGeneration, assemble
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import AudioEncoder
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.features import pad_frames
from tiny_audio.model.prompt import audio_token_id, resolved
from tiny_audio.presets import nano
from tiny_audio.train.hardware import autocast, multiplies_bf16

SHAPE_STEP = 64  # few shapes for oneDNN


def new_model(encoder: AudioEncoder, decoder: Qwen3ForCausalLM, tokenizer: Any, seed: int) -> Any:
    """Put nano's parts together with a fresh projector; only the projector is not frozen."""
    torch.manual_seed(seed)
    config = AudioLMConfig(
        audio_config=encoder.config.to_dict(),
        projector_config=nano.PRESET.projector.to_dict(),
        decoder_config=DecoderConfig(architecture=decoder.config.to_dict()).to_dict(),
        prompt_config=resolved(PROMPT, tokenizer).to_dict(),
        audio_token_id=audio_token_id(tokenizer),
    )
    return assemble(config, encoder, decoder, tokenizer)


# Cached frames ------------------------------------------------------------------------------------


class CachedClip(NamedTuple):
    """The frames (T, E) of a clip in bfloat16, and its text."""

    frames_TE: Tensor
    text: str


@torch.no_grad()
def encode_shard(
    encoder: AudioEncoder, batches: Iterable[CtcBatch], path: Path, origin: str = ""
) -> int:
    """Write frames of many batches into one safetensors file; return the number of clips.

    `origin` names encoder and clips; `read_frames` refuses frames of another one.
    """
    kept, lengths, texts = [], [], []
    for batch in batches:
        with autocast(multiplies_bf16("cpu")):
            frames_BTE, lengths_B = encoder(batch.features)
        for frames_TE, length in zip(frames_BTE, lengths_B.tolist(), strict=True):
            kept.append(frames_TE[:length].to(torch.bfloat16))
            lengths.append(length)
        texts += batch.texts
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {"lengths": json.dumps(lengths), "texts": json.dumps(texts), "origin": origin}
    with whole(path) as temporary:
        save_file({"frames": torch.cat(kept)}, temporary, note)
    return len(texts)


def read_frames(folder: Path, origin: str = "") -> list[CachedClip]:
    """Read all cached clips of a folder, in the order of its files."""
    clips = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            note, frames = file.metadata(), file.get_tensor("frames")
        if note["origin"] != origin:
            raise CheckpointError(
                f"{path} holds frames of another encoder or other clips. Delete {folder} and run "
                f"the stage `frames` again."
            )
        parts = frames.split(json.loads(note["lengths"]))
        clips += [CachedClip(f, t) for f, t in zip(parts, json.loads(note["texts"]), strict=True)]
    return clips


# Training -----------------------------------------------------------------------------------------


class AlignBatch(NamedTuple):
    frames: list[Tensor]
    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor
    text_rows: RowBatch | None


class AlignTask(nn.Module):
    """Batches and loss. With `text`, a share of pretraining rows keeps the decoder steerable."""

    def __init__(
        self,
        model: AudioLMForConditionalGeneration,
        clips: Sequence[CachedClip],
        text: DecoderTask | None = None,
    ):
        super().__init__()
        self.model = model
        self._clips, self._text = clips, (text,)  # in a tuple: not a second owner of the decoder

    def batch(self, seed: int, step: int, rows: int, text_rows: int) -> AlignBatch:
        rng = random.Random(f"align/{seed}/{step}")
        drawn = sorted(rng.sample(range(len(self._clips)), 4 * rows), key=self._length)
        start = rng.randrange(3 * rows + 1)
        chosen = [self._clips[i] for i in drawn[start : start + rows]]
        frames = [h.frames_TE[rng.randint(0, min(3, len(h.frames_TE) - 1)) :] for h in chosen]
        tokenizer, positions = self.model.tokenizer, self.model.config.projector.positions_for
        pairs = zip(frames, chosen, strict=True)
        prompts = [answered(h.text, positions(len(f)), tokenizer) for f, h in pairs]
        task = self._text[0]
        extra = task.rows(seed, step, text_rows) if task and text_rows else None
        return AlignBatch(frames, *pad_answers(prompts, tokenizer), extra)

    def _length(self, index: int) -> int:
        return len(self._clips[index].frames_TE)

    def loss(self, batch: AlignBatch) -> tuple[Tensor, int]:
        """Return the cross-entropy, summed over the answers' tokens, and their number."""
        frames = pad_frames(batch.frames, SHAPE_STEP)
        embeds_BLD = self.model.embed_prompts(batch.ids_BL, frames)
        decoder = self.model.language_model
        total, count = answer_loss(decoder, embeds_BLD, batch.mask_BL, batch.labels_BL)
        if batch.text_rows is not None:
            more, number = row_loss(decoder, batch.text_rows, self.model.config.audio_token_id or 0)
            total, count = total + more, count + number
        return total, count
