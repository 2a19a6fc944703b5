"""Writing a model to disk.

config.json           configuration of every part, names of what was trained, hashes of the rest
trained.safetensors   what was trained: the projector, LoRA adapters, unfrozen weights
golden.safetensors    what every stage made of one fixed second of sound when it was saved
encoder/ decoder/     the frozen parts in the Hub's layout, in a self-contained folder only
"""

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .configuration import AudioLMConfig
from .encoder import AudioEncoder
from .errors import CheckpointError
from .identity import (
    base_digests,
    base_name,
    base_state,
    coarsest,
    golden,
    identity,
    is_trained,
    record_fresh,
)
from .modeling import AudioLM
from .packing import pack, rounded
from .prompt import resolved
from .quantize import is_quantised
from .sources import INSIDE

OWN_FILES = {"config.json", "trained.safetensors", "golden.safetensors", "encoder", "decoder"}


def save(
    model: AudioLM, folder: str | Path, *, whole: bool = False, dtype: torch.dtype | None = None
) -> Path:
    """Write a checkpoint: `folder` is either the old one or the whole new one. (Only a kill between
    the two renames at the end leaves no `folder`, but both beside it under hidden names.)

    Without `whole` it holds the trained part and says by hash what it belongs to; with it,
    everything. A model whose parts have no source of their own (loaded from a self-contained
    folder, or handed in), or of which nobody knows what has changed since it was read
    (`check=False`), is always written whole. Other files in `folder` stay there. `dtype`
    stores weights smaller (bfloat16, or int8 with a scale per row for the trained part alone);
    hashes and golden vectors are then those of what is stored.
    """
    folder = Path(folder)
    if model.is_merged:
        raise CheckpointError("A merged model only infers; load without merge=True to save it.")
    if is_quantised(model):
        raise CheckpointError("A quantised model only infers; load it in float32 to save it.")
    # A part that came out of a checkpoint's folder, or by hand, is nowhere else to be read from.
    sources = (model.config.encoder.source, model.config.language_model.source)
    whole = whole or any(not source or source.startswith(INSIDE) for source in sources)
    whole = whole or model.base_digests is None
    if whole and dtype == torch.int8:
        raise CheckpointError(
            "int8 is for the trained part alone; save a whole checkpoint in bfloat16 or float32."
        )
    if dtype is not None:
        kept, untrained = trained_part(model, whole), is_trained(model) is False
        model = copy.deepcopy(model)
        # What is stored, and parameters only: no file holds buffers (RoPE's frequencies).
        for name, parameter in model.named_parameters():
            if whole or name in kept:
                parameter.data = rounded(parameter.data, dtype)
        if untrained:  # rounding is no training
            record_fresh(model)
    if folder.exists() and any(folder.iterdir()) and not is_checkpoint(folder):
        raise CheckpointError(f"{folder} exists and is not a checkpoint; choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(model, fresh, whole, dtype)
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _write(model: AudioLM, folder: Path, whole: bool, dtype: torch.dtype | None) -> None:
    trained = trained_part(model, whole)
    config = AudioLMConfig.from_dict(model.config.to_dict())
    config.prompt_config = resolved(config.prompt, model.tokenizer).to_dict()
    if whole:
        config.audio_config = {**(config.audio_config or {}), "source": f"{INSIDE}encoder"}
        config.decoder_config = {**(config.decoder_config or {}), "source": f"{INSIDE}decoder"}
        write_encoder(model.audio_tower, folder / "encoder", dtype)
        before = config.language_model.quantisation
        write_part(model.language_model, folder / "decoder", dtype, quantisation=before)
        model.language_model.generation_config.save_pretrained(folder / "decoder")
        model.tokenizer.save_pretrained(folder / "decoder")
    config.trained = sorted(trained)
    config.identity = identity(model, trained)
    config.architectures = ["AudioLMForConditionalGeneration"]
    save_file(stored(trained, dtype), folder / "trained.safetensors")
    save_file(golden(model), folder / "golden.safetensors", {"dtype": str(coarsest(model))})
    config.save_pretrained(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes files that only their owner may read
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is, and files that are not a checkpoint's back beside it.

    Two renames: a kill between them leaves the old one whole beside it, under a hidden name that
    ends in `.old`.
    """
    fresh.chmod(0o755)
    old = fresh.with_name(f"{fresh.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    if old.exists():
        for path in old.iterdir():
            if path.name not in OWN_FILES:
                path.rename(folder / path.name)
        shutil.rmtree(old)


def trained_part(model: AudioLM, whole: bool) -> dict[str, Tensor]:
    """Return the projector, LoRA adapters, and base weights that were trained, now or in an earlier
    stage (with `whole` these are in their part's folder).
    """
    base: set[str] = set()
    if not whole:
        base = {*map(base_name, model.config.trained or []), *changed_since_read(model)}
        base |= {base_name(name) for name in model.trainable()}
    chosen = {}
    for name, parameter in model.named_parameters():
        if name.startswith("projector.") or "lora_" in name or base_name(name) in base:
            chosen[name] = parameter.detach().cpu().contiguous()
    return chosen


def changed_since_read(model: AudioLM) -> set[str]:
    """Return base weights that differ from those that were read, frozen or not."""
    read, now = model.base_digests or {}, base_digests(model)
    return {name for name, digest in now.items() if read.get(name) != digest}


def stored(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    if dtype is None:
        return state
    if dtype == torch.int8:
        return pack(state)
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}


def is_checkpoint(folder: Path) -> bool:
    """Tell whether the folder's config.json is one of ours."""
    try:
        return json.loads((folder / "config.json").read_text())["model_type"] == "tiny_audio"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_encoder(encoder: AudioEncoder, folder: Path, dtype: torch.dtype | None) -> None:
    """Write the encoder in the Hub's layout, with the names that its family has there."""
    write_part(encoder.model, folder, dtype, encoder.config.record.hub_prefix)


def write_part(
    module: Any,
    folder: Path,
    dtype: torch.dtype | None,
    prefix: str = "",
    quantisation: str = "",
) -> None:
    """Write one pretrained part as its own Hub folder, without adapters: config.json and weights.
    The file's header notes how the weights were quantised before.
    """
    folder.mkdir(parents=True)
    module.config.save_pretrained(folder)
    weights, seen = {}, set()
    for name, tensor in base_state(module).items():
        # Tied weights are one tensor under two names; safetensors takes it once (trap T33).
        if tensor.data_ptr() not in seen:
            weights[prefix + name] = tensor.cpu().contiguous()
            seen.add(tensor.data_ptr())
    notes = {"format": "pt", "quantisation": quantisation} if quantisation else {"format": "pt"}
    save_file(stored(weights, dtype), folder / "model.safetensors", notes)
