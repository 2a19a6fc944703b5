"""Reading a Whisper model in CTranslate2's binary layout, which faster-whisper uses.

`model.bin` (version 6): the name and revision of a specification, variables, and aliases of them.
Every variable is put where transformers has it, or is refused by name.
"""

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from .binary import BinaryFile, parsing
from .errors import CheckpointError

VERSION, SPECIFICATION, REVISION = 6, "WhisperSpec", 3
DTYPES = (
    torch.float32,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.float16,
    torch.bfloat16,
)
# What a Whisper model must say of itself: pre-norm, GELU, learnt positions, embeddings not scaled.
REQUIRED = {
    "decoder/pre_norm": 1,
    "decoder/activation": 3,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
    "decoder/alibi": 0,
}
# How decoding is run in CTranslate2; no part of the model's computation.
NOTES = (
    "encoder/num_heads",
    "decoder/num_heads",
    "decoder/alignment_layer",
    "decoder/alignment_heads",
)
# Modules under transformers' names; where three or two lie in one, they are cut along the rows.
OF_LAYER = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    "ffn/layer_norm": ("final_layer_norm",),
}
MODULES = {
    "encoder/conv1": "model.encoder.conv1",
    "encoder/conv2": "model.encoder.conv2",
    "encoder/layer_norm": "model.encoder.layer_norm",
    "decoder/layer_norm": "model.decoder.layer_norm",
    "encoder/position_encodings": "model.encoder.embed_positions",
    "decoder/position_encodings": "model.decoder.embed_positions",
    "decoder/embeddings": "model.decoder.embed_tokens",
    "decoder/projection": "proj_out",
}
PARAMETERS = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "encodings": "weight",
}
WITH_BIAS = ("weight", "bias")


@dataclass(frozen=True)
class Variable:
    """One variable as it lies in the file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int


@dataclass(frozen=True)
class Ct2:
    """The variables of a model.bin, and what each alias stands for."""

    file: BinaryFile
    variables: dict[str, Variable]
    aliases: dict[str, str]

    @property
    def path(self) -> str:
        return self.file.path

    def stored(self, name: str) -> Tensor:
        """Return a variable as it is stored."""
        if name not in self.variables:
            raise CheckpointError(f"{self.path} is not whole (missing: {name}).")
        variable = self.variables[name]
        return self.file.tensor(name, variable.start, variable.shape, variable.dtype)

    def scalar(self, name: str) -> int:
        """Return a variable that is one number."""
        found = self.stored(name)
        if found.dim():
            raise CheckpointError(
                f"{self.path}: {name} has the shape {tuple(found.shape)}, not ()."
            )
        return int(found)

    def value(self, name: str) -> Tensor:
        """Return a variable, or what its alias stands for, as float; integers are divided by the
        scale beside them, which is one for all (int16) or one for each row (int8).
        """
        owner = self.aliases.get(name, name)
        found = self.stored(owner)
        if found.is_floating_point():
            return found
        scale = self.stored(f"{owner}_scale").float()
        if scale.dim() and scale.dim() == found.dim() - 1:
            scale = scale.unsqueeze(1)
        elif scale.dim() == 1:
            scale = scale.view(-1, *[1] * (found.dim() - 1))
        if scale.dim() and scale.shape[0] != found.shape[0]:
            raise CheckpointError(f"{self.path}: {owner}_scale has not one scale a row.")
        return found.float() / scale

    def quantisation(self) -> str:
        """Return "int8" or "int16" where weights hold integers, and "" for floats."""
        kinds = {str(v.dtype).split(".")[-1] for v in self.variables.values() if len(v.shape) > 1}
        return ", ".join(sorted(kind for kind in kinds if kind.startswith("int")))


def read_ct2(folder: str) -> Ct2:
    """Read the whole table of a folder's model.bin; refuse a cut file or another version."""
    path = Path(folder) / "model.bin"
    found = path.stat()
    return _read(str(path), found.st_mtime_ns, found.st_size)


def forget() -> None:
    """Close the file that was read last."""
    _read.cache_clear()


@functools.lru_cache(maxsize=1)  # config and weights come from one file
def _read(path: str, _changed: int, _size: int) -> Ct2:
    file = BinaryFile(path)
    with parsing(path):
        version, name, revision = file.take("I"), "", 0
        if version == VERSION:
            name, revision = _text(file), file.take("I")
        if (version, name, revision) != (VERSION, SPECIFICATION, REVISION):
            raise CheckpointError(
                f"{path} is of version {version} ({name or 'unknown'}, revision {revision}); read "
                f"here is version {VERSION} of {SPECIFICATION}, revision {REVISION}. Convert the "
                f"original again with ct2-transformers-converter, or give its own folder."
            )
        table = [_variable(file) for _ in range(file.take("I"))]
        aliases = {_text(file): _text(file) for _ in range(file.take("I"))}
    variables = dict(table)
    if len(variables) != len(table) or file.at != len(file.data):
        raise CheckpointError(f"{path} is damaged: a variable is there twice, or its end is not.")
    if broken := sorted(set(aliases.values()) - set(variables)):
        raise CheckpointError(f"{path} is not whole (missing: {', '.join(broken)}).")
    return Ct2(file, variables, aliases)


def _text(file: BinaryFile) -> str:
    return file.text(file.take("H")).rstrip("\0")


def _variable(file: BinaryFile) -> tuple[str, Variable]:
    name = _text(file)
    shape = tuple(file.take("I") for _ in range(file.take("B")))
    dtype, size = DTYPES[file.take("B")], file.take("I")
    found = Variable(shape, dtype, file.at)
    file.at += size
    if size != math.prod(shape) * dtype.itemsize or file.at > len(file.data):
        raise IndexError(f"{name}: {size} bytes for {shape} of {dtype}")
    return name, found


# The variables that a Whisper model's widths are read from.
SHAPES = (
    "encoder/conv1/weight",
    "encoder/position_encodings/encodings",
    "encoder/layer_0/ffn/linear_0/weight",
    "decoder/embeddings/weight",
    "decoder/position_encodings/encodings",
    "decoder/layer_0/ffn/linear_0/weight",
)


def ct2_architecture(folder: str) -> dict[str, Any]:
    """Return transformers' config of a Whisper model, read off its weights and tokens."""
    file = read_ct2(folder)
    needed = {name: file.variables.get(name) for name in SHAPES}
    if missing := [name for name, found in needed.items() if not found or len(found.shape) < 2]:
        raise CheckpointError(
            f"{file.path} is not whole (missing, or no matrix: {', '.join(missing)})."
        )
    conv, seen, fc_seen, table, written, fc_written = (file.variables[n].shape for n in SHAPES)
    return AutoConfig.for_model(
        "whisper",
        d_model=conv[0],
        num_mel_bins=conv[1],
        max_source_positions=seen[0],
        encoder_ffn_dim=fc_seen[0],
        encoder_layers=len(layers(file, "encoder")),
        encoder_attention_heads=file.scalar("encoder/num_heads"),
        vocab_size=table[0],
        max_target_positions=written[0],
        decoder_ffn_dim=fc_written[0],
        decoder_layers=len(layers(file, "decoder")),
        decoder_attention_heads=file.scalar("decoder/num_heads"),
        tie_word_embeddings="decoder/projection/weight" not in file.variables,
        architectures=["WhisperForConditionalGeneration"],
        **special_ids(Path(folder)),
    ).to_dict()


def layers(file: Ct2, side: str) -> list[str]:
    """Count the layers of the encoder or decoder, up to the last that has a variable."""
    found = [n.split("/")[1] for n in file.variables if n.startswith(f"{side}/layer_")]
    numbers = [int(n.removeprefix("layer_")) for n in found if n.removeprefix("layer_").isdigit()]
    last = min(max(numbers, default=-1), len(file.variables))  # a wrong number is refused later
    return [f"{side}/layer_{n}" for n in range(last + 1)]


def special_ids(folder: Path) -> dict[str, Any]:
    """Return the ids of the tokens that begin and end a text."""
    ids = token_ids(folder)
    try:
        end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    except KeyError as error:
        raise CheckpointError(f"{folder}/tokenizer.json has no token {error}.") from error
    return {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "begin_suppress_tokens": None,
    }


def token_ids(folder: Path) -> dict[str, int]:
    """Return the ids of Whisper's control tokens."""
    try:
        read = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        return {str(token["content"]): int(token["id"]) for token in read["added_tokens"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} has no readable tokenizer.json ({error!r}); copy the model's own beside "
            f"model.bin."
        ) from error


def ct2_weights(folder: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights of the whole Whisper model under transformers' names."""
    file = read_ct2(folder)
    names = places(file)
    scales = {f"{name}_scale" for name, v in file.variables.items() if v.shape}
    unknown = set(file.variables) - set(names) - set(NOTES) - set(REQUIRED) - scales
    missing = sorted(set(names) - set(file.variables) - set(file.aliases))
    if unknown or missing:
        raise CheckpointError(
            f"{file.path} is not whole, or no Whisper (missing: {', '.join(missing[:5]) or '–'}; "
            f"unknown: {', '.join(sorted(unknown)[:5]) or '–'})."
        )
    for name, value in REQUIRED.items():
        if (found := file.scalar(name)) != value:
            raise CheckpointError(f"{file.path}: {name} is {found}, in Whisper it is {value}.")
    return {n: t.to(dtype) for name, to in names.items() for n, t in cut(file, name, to)}


def places(file: Ct2) -> dict[str, list[str]]:
    """Map every variable that has to be there to transformers' parameters that lie in it."""
    modules = {name: [to] for name, to in MODULES.items()}
    if "decoder/projection/weight" not in file.variables:
        del modules["decoder/projection"]  # tied to the embeddings
    for side in ("encoder", "decoder"):
        for number, layer in enumerate(layers(file, side)):
            for name, inner in OF_LAYER.items():
                if side == "decoder" or not name.startswith("attention/"):
                    at = f"model.{side}.layers.{number}"
                    modules[f"{layer}/{name}"] = [f"{at}.{part}" for part in inner]
    found: dict[str, list[str]] = {}
    for name, parts in modules.items():
        for kind in parameters(name):
            found[f"{name}/{kind}"] = [f"{part}.{PARAMETERS[kind]}" for part in parts]
    return found


def parameters(module: str) -> tuple[str, ...]:
    """Return the parameters of a module, by its kind."""
    if module.endswith("layer_norm"):
        return ("gamma", "beta")
    if module.endswith("position_encodings"):
        return ("encodings",)
    return ("weight",) if module.startswith("decoder/") and module in MODULES else WITH_BIAS


def cut(file: Ct2, name: str, parts: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Cut one variable into the parameters that lie in it; keys have no bias in Whisper."""
    value = file.value(name)
    if not value.dim() or len(value) % len(parts):
        raise CheckpointError(f"{file.path}: {name} does not hold {len(parts)} equal parts.")
    for part, tensor in zip(parts, value.chunk(len(parts)), strict=True):
        if not part.endswith("k_proj.bias"):
            yield part, tensor
        elif tensor.any():
            raise CheckpointError(f"{file.path}: {name} gives keys a bias, and Whisper has none.")
