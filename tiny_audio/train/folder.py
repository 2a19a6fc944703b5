"""A run's folder belongs to the recipe in it, and to no other once something was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tiny_audio.evaluate.provenance import made
from tiny_audio.files import append_json, differences, write_text
from tiny_audio.model.errors import ConfigError
from tiny_audio.train.hardware import multiplies_bf16
from tiny_audio.train.recipe import Recipe, Setting, without_removed
from tiny_audio.train.track import METRICS

TRAINED = ("*/step-*.safetensors", "*/best", "*/done.json", "model", "result.json")
MACHINES = "machines.jsonl"
DAMAGED = "Delete this file if you repeat exactly the command that made the run."
Settled = TypeVar("Settled", bound=Setting)


def folder_of(recipe: Recipe) -> Path:
    return Path(recipe.output or f"runs/{recipe.name}")


def remember(recipe: Settled, folder: Path) -> Settled:
    """Write recipe.yaml with the precision that "auto" stands for, and return that recipe. The
    folder of another recipe that has been trained is refused, and the difference named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    found = without_removed(read_recipe(path)) if path.exists() else {}
    if recipe.precision == "auto":
        fitting = "bf16" if multiplies_bf16(recipe.device) else "fp32"
        recipe = replace(recipe, precision=found.get("precision", fitting))
    values = recipe.to_dict()
    if found and not any(any(folder.glob(pattern)) for pattern in TRAINED):
        found = {}  # it ended before its first save: nothing of it is of use
        (folder / METRICS).unlink(missing_ok=True)
        (folder / "data.json").unlink(missing_ok=True)
        (folder / MACHINES).unlink(missing_ok=True)
    if found and found != values:
        changed = "; ".join(sorted(differences(found, values)))
        raise ConfigError(
            f"{folder} holds another run ({changed}). Repeat that one, or give "
            f"another folder as output."
        )
    if found != values:
        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return recipe


def note_machine(folder: Path, device: str, processes: int) -> None:
    """A line more in machines.jsonl: when, by which command and on what the run was taken up."""
    append_json(folder / MACHINES, {**made(device), "processes": processes})


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the content of recipe.yaml; raise `ConfigError` where it is damaged."""
    try:
        found = yaml.safe_load(path.read_bytes().decode("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML ({error}). {DAMAGED}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no recipe. {DAMAGED}")
    return found
