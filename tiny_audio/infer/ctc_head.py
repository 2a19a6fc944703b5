"""A CTC head, which reads characters off an encoder's frames, without a language model.

It is the honest baseline of an encoder, and what word times come from (`timestamps.py`). A folder
holds `config.json`, which says by hash to which encoder the head belongs, and `head.safetensors`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.data.text import clean
from tiny_audio.files import read_json, whole, write_json
from tiny_audio.model.config import StrictConfig, fingerprint
from tiny_audio.model.encoder import AudioEncoder
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.features import valid_mask
from tiny_audio.model.identity import encoder_key

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"  # id 0 is CTC's blank
UNKNOWN = "*"  # in a text: what none of these can spell
CONFIG, WEIGHTS = "config.json", "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class CtcHeadConfig(StrictConfig):
    """The configuration of a head; `encoder` is the identity of the encoder it reads."""

    width: int
    encoder: str
    hidden: int = 128
    depth: int = 2
    kernel: int = 5
    characters: str = CHARACTERS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.characters != CHARACTERS:
            raise CheckpointError(
                f"A CTC head of the characters {self.characters!r}; this version reads heads of "
                f"{CHARACTERS!r}. Train it again: tiny-audio train-head."
            )


class CtcHead(nn.Module):
    """Turns frames into log-probabilities of characters, by convolutions and a classifier.

    Two convolutions over 5 frames see 90 ms on both sides. They do not see frames after the end
    of a clip, so a clip gives the same alone and in a batch.
    """

    def __init__(self, config: CtcHeadConfig):
        super().__init__()
        self.config = config
        self.enter = nn.Sequential(
            nn.LayerNorm(config.width), nn.Linear(config.width, config.hidden)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.leave = nn.Linear(config.hidden, len(config.characters) + 1)

    def forward(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Return log-probabilities (B, T, characters + 1) in float32; id 0 is the blank."""
        valid_BT1 = valid_mask(lengths_B, frames_BTE.shape[1])[..., None]
        x_BTH = self.enter(frames_BTE.to(self.leave.weight.dtype))
        for block in self.blocks:
            x_BTH = x_BTH + block(x_BTH * valid_BT1)
        return self.leave(x_BTH).float().log_softmax(-1)

    def transcribe(self, frames_BTE: Tensor, lengths_B: Tensor) -> list[str]:
        """Return the best path of every clip, collapsed."""
        return read_paths(self(frames_BTE, lengths_B), lengths_B)

    def save(self, folder: Path) -> None:
        """Write the folder in bfloat16; each file is there whole, or not at all."""
        write_head(self, folder, self.config)

    @classmethod
    def from_pretrained(cls, folder: Path, encoder: AudioEncoder) -> CtcHead:
        """Load the head in float32 on the encoder's device; `CheckpointError` for another's."""
        config = read_config(folder)
        if config.encoder != encoder_id(encoder):
            raise CheckpointError(
                f"{folder} is a CTC head for another encoder ({config.encoder[:12]}; this one is "
                f"{encoder_id(encoder)[:12]}). Train one for it: tiny-audio train-head."
            )
        head = cls(config)
        fill(head, folder)
        return head.to(next(encoder.parameters()).device).eval()


class Block(nn.Module):
    """A layer that normalises, looks at the neighbouring frames, and rectifies."""

    def __init__(self, config: CtcHeadConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden)
        around = config.kernel // 2
        self.conv = nn.Conv1d(config.hidden, config.hidden, config.kernel, padding=around)

    def forward(self, x_BTH: Tensor) -> Tensor:
        return F.gelu(self.conv(self.norm(x_BTH).transpose(1, 2))).transpose(1, 2)


def write_head(head: nn.Module, folder: Path, config: StrictConfig) -> None:
    """Write a head's folder, parameters in bfloat16; each file is there whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name for name, _ in head.named_parameters()}
    stored = {
        name: value.detach().to("cpu", torch.bfloat16 if name in trained else value.dtype)
        for name, value in head.state_dict().items()
    }
    with whole(folder / WEIGHTS) as temporary:
        save_file(stored, temporary)
    write_json(folder / CONFIG, config.to_dict())


def fill(head: nn.Module, folder: Path) -> None:
    """Load a head's weights: all of them, in their shapes, or raise a `CheckpointError`."""
    try:
        stored = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({error}).") from error
    shapes = {k: v.shape for k, v in head.state_dict().items()}
    if {k: v.shape for k, v in stored.items()} != shapes:
        raise CheckpointError(f"{folder / WEIGHTS} holds other weights than its {CONFIG} says.")
    head.load_state_dict(stored)


def read_config(folder: Path) -> CtcHeadConfig:
    try:
        found = read_json(folder / CONFIG, "Copy the head again.")
    except ConfigError as error:
        raise CheckpointError(
            f"{folder} is no CTC head: {error} Or train one: tiny-audio train-head."
        ) from error
    return CtcHeadConfig.from_dict(found)


def encoder_id(encoder: AudioEncoder) -> str:
    """Return the identity of the encoder's weights and configuration before pooling."""
    return fingerprint(encoder_key(unpooled(encoder)))


def unpooled(encoder: AudioEncoder) -> AudioEncoder:
    """Return the same encoder with all of its frames: 10 a second are too few to spell words."""
    if encoder.config.pool == (1, 1):
        return encoder
    whole = type(encoder)(replace(encoder.config, pool=(1, 1)), encoder.model)
    whole.frozen = encoder.frozen
    return whole.train(encoder.training)


# Characters -----------------------------------------------------------------------------------


def spell(text: str) -> str:
    """Spell a text in the head's characters: without case, punctuation and accents. It is "" where
    a letter or digit is none of these ("12", "мир"): what is not spelled out is not guessed.
    """
    letters = letters_of(text)
    return "" if UNKNOWN in letters else letters


def letters_of(text: str) -> str:
    """Spell a text in the head's characters, with UNKNOWN for every run of others."""
    split = unicodedata.normalize("NFKD", clean(text, "plain"))
    letters = "".join(c for c in split if not unicodedata.combining(c))
    return re.sub(f"[^{re.escape(CHARACTERS)}]+", UNKNOWN, letters)


def encode_characters(text: str) -> list[int]:
    return [CHARACTERS.index(c) + 1 for c in text]


def read_paths(log_probs_BTC: Tensor, lengths_B: Tensor) -> list[str]:
    """Return the text of every clip's best path."""
    rows = zip(log_probs_BTC.argmax(-1).tolist(), lengths_B.tolist(), strict=True)
    return [decode_path(row[:length]) for row, length in rows]


def decode_path(path: Sequence[int]) -> str:
    return " ".join("".join(CHARACTERS[c - 1] for c in collapsed(path)).split())


def collapsed(path: Sequence[int]) -> list[int]:
    """Return the labels of a CTC path: repeats count once, blanks (0) not at all."""
    return [c for c, before in zip(path, [0, *path], strict=False) if c != before and c]
