"""Saving and reading a training run: what trains, optimisers, counters; whole files, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny_audio.files import whole
from tiny_audio.model.errors import CheckpointError
from tiny_audio.progress import stderr
from tiny_audio.train.distributed import place

CHECKSUM = "sha256"
EARLIER = "Delete it to go on from the save before it."


def write_save(target: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write a save, which is there whole or not at all, also after a power cut."""
    held = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_checked(target, held, {"counters": json.dumps(about)})


def write_checked(target: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write a safetensors file, whole, with a checksum of the tensors and notes that it holds."""
    with whole(target) as temporary:
        save_file(tensors, temporary, {**notes, CHECKSUM: checksum(tensors, notes)})


def checksum(tensors: dict[str, Tensor], notes: dict[str, str]) -> str:
    """Return a SHA-256 over notes, names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(values)
    return digest.hexdigest()


def check_sum(path: Path, tensors: dict[str, Tensor], notes: dict[str, str], cure: str) -> None:
    """Refuse a file in which something changed since it was written; say it where nobody knows."""
    notes = dict(notes)
    written = notes.pop(CHECKSUM, None)
    if written is None:
        note = f"{path} has no checksum (an earlier version wrote it); it is used as it is."
        stderr.print(note, markup=False, highlight=False, soft_wrap=True)
    elif written != checksum(tensors, notes):
        raise CheckpointError(f"{path} is damaged: its values are not those written. {cure}")


def saves(folder: Path) -> list[Path]:
    """Return the saves of a folder, the newest last."""
    return sorted(p for p in folder.glob("step-*.safetensors") if p.stem.count("-") == 1)


def last_save(folder: Path) -> Path:
    """Return the newest save; raise a `CheckpointError` where there is none."""
    found = saves(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no save; train this stage first.")
    return found[-1]


def part_of(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}.safetensors")


def read_save(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a save; one that is not as it was written, or that holds weights that
    are no numbers, is a `CheckpointError`.
    """
    with _refusing_damage(path), safe_open(path, "pt") as file:
        notes = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_sum(path, tensors, notes, EARLIER)
    for name, tensor in tensors.items():
        if name.startswith("module.") and not tensor.isfinite().all():
            raise CheckpointError(f"{path} holds NaN or Inf in {name}. {EARLIER}")
    return tensors


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). {EARLIER}") from error


def read_counters(path: Path) -> dict[str, Any]:
    """Return step, seconds and data state of a save; `CheckpointError` if it is not whole."""
    with _refusing_damage(path), safe_open(path, "pt") as file:
        return json.loads(file.metadata()["counters"])  # of no save: None, or without them


def module_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the weights under `prefix` of a save: those that trained."""
    start = f"module.{prefix}"
    return {k[len(start) :]: v for k, v in read_save(path).items() if k.startswith(start)}


@torch.no_grad()
def restore(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Put what a save holds under `prefix` into the module, which must have all of it."""
    parameters, weights = dict(module.named_parameters()), module_weights(path, prefix)
    if odd := sorted(set(weights) - set(parameters)) or (["nothing"] if not weights else []):
        raise CheckpointError(f"{path} holds {odd[0]} under {prefix!r}, which is not needed here.")
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)


@torch.no_grad()
def load_weights(
    parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor], path: Path
) -> None:
    """Load exactly the parameters that train, no more and no fewer."""
    stored = {k.removeprefix("module.") for k in tensors if k.startswith("module.")}
    if odd := sorted(stored ^ set(parameters)):
        raise CheckpointError(f"{path} holds other weights than train here, e.g. {odd[0]}.")
    for name, parameter in parameters.items():
        parameter.copy_(place(tensors[f"module.{name}"], parameter))


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits that change with any name or weight."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        values = tensor.detach().cpu().contiguous().view(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
