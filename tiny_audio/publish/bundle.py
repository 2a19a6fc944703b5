"""The folder as it will lie on the Hub.

config.json, *.safetensors   the checkpoint, with golden vectors and prompt
encoder/ decoder/            weights and tokenizer, where it is self-contained
ctc/ tokens/                 the checkpoint's CTC heads, where it has some
*.py                         the files of `tiny_audio/model/`, for those who have transformers alone
run/                         recipe, counts of clips, log, machines and result of the training
results/                     evaluations that their predictions prove
README.md                    the card
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tiny_audio import model as path_of_the_sound
from tiny_audio.files import write_json, write_text
from tiny_audio.model.configuration import CODE
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import OWN_FILES, save
from tiny_audio.presets import load
from tiny_audio.publish.facts import Facts
from tiny_audio.publish.licences import parts
from tiny_audio.scale.shards import HEADS

# What transformers loads from the carried files, by way of the last file of the path, whose import
# makes the model known to all of the Auto classes.
CLASSES = {
    "AutoConfig": "checkpoint.AudioLMConfig",
    "AutoModel": "checkpoint.AudioLMForConditionalGeneration",
    "AutoModelForSpeechSeq2Seq": "checkpoint.AudioLMForConditionalGeneration",
    "AutoProcessor": "checkpoint.PretrainedAudioProcessor",
}
OF_THE_RUN = ("metrics.jsonl", "machines.jsonl", "result.json")
NOTED = "_name_or_path"
MARK = ".tiny-audio-bundle"  # a folder of ours: it may be written anew
# A path of the machine. It is not published, since it shows only the publisher's folders.
OWN_PLACE = re.compile(r"(?<![\w.])(?:~|/)[\w.~-]*(?:/[\w.~+@-]+)+")


@dataclass(frozen=True)
class Bundle:
    """A written folder, and whether it holds the frozen parts too."""

    folder: Path
    whole: bool

    def files(self) -> Iterator[tuple[str, int]]:
        """Return the names and sizes of all files that will be uploaded."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != MARK:
                yield path.relative_to(self.folder).as_posix(), path.stat().st_size


def write_bundle(
    facts: Facts, model: AudioLM, folder: Path, card: str, whole: bool, dtype: torch.dtype | None
) -> Bundle:
    """Write the folder anew: the checkpoint `model` (as `facts` describes it), code, run, card.

    A part that lies in a folder of this machine cannot be found by others, so the checkpoint is
    written whole then, whatever `whole` says.
    """
    clear(folder)
    whole = whole or any(lies_here(source) for source in parts(facts.config).values())
    if whole or dtype is not None:
        save(model, folder / "checkpoint", whole=whole, dtype=dtype)
        move_up(folder / "checkpoint", folder)
    else:
        for path in facts.checkpoint.iterdir():
            if path.name in OWN_FILES:
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, folder / path.name)
    for head in HEADS:
        if (facts.checkpoint / head).is_dir():
            shutil.copytree(facts.checkpoint / head, folder / head)
    forget_places(folder)
    carry_code(folder)
    carry_run(facts, folder / "run")
    for number, (result, _) in enumerate(facts.evaluations, 1):
        write_json(folder / "results" / f"{number}.json", without_places(result))
    write_text(folder / "README.md", card)
    whole = (folder / "encoder").is_dir() and (folder / "decoder").is_dir()
    return Bundle(folder, whole)


def lies_here(source: str) -> bool:
    """Tell whether a source is a path on this machine."""
    return source.startswith(("/", "~", "../")) or (
        not source.startswith("./") and Path(source).exists()
    )


def clear(folder: Path) -> None:
    """Make an empty folder with our mark; raise `ConfigError` if other files are in it."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(f"{folder} holds other files; give a new folder with --out.")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "results").mkdir(parents=True)
    (folder / MARK).touch()


def move_up(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        path.rename(folder / path.name)
    source.rmdir()


def forget_places(folder: Path) -> None:
    """Remove the paths that transformers notes in every configuration that it reads."""
    for path in folder.rglob("config.json"):
        write_json(path, without_key(json.loads(path.read_text(encoding="utf-8")), NOTED))


def without_key(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without_key(one, name) for key, one in value.items() if key != name}
    return [without_key(one, name) for one in value] if isinstance(value, list) else value


def carry_code(folder: Path) -> None:
    """Copy the files of `tiny_audio/model/` beside the weights, and name them in config.json."""
    (where,) = path_of_the_sound.__path__
    for path in sorted(Path(where).glob("*.py")):
        if path.stem != "__init__":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, CODE: CLASSES})


def carry_run(facts: Facts, folder: Path) -> None:
    """Copy the recipe and the records of the run, without the paths of its machine."""
    if facts.folder is None:
        return
    folder.mkdir()
    recipe = yaml.safe_dump(without_places(facts.recipe), sort_keys=False, allow_unicode=True)
    write_text(folder / "recipe.yaml", recipe)
    counts = {key: value for key, value in facts.data.items() if key != "places"}
    write_json(folder / "data.json", without_places(counts))
    for name in OF_THE_RUN:
        if (facts.folder / name).is_file():
            text = (facts.folder / name).read_text(encoding="utf-8")
            write_text(folder / name, OWN_PLACE.sub(last_part, text))


def without_places(value: Any) -> Any:
    """Return the same values with only the last part of every path of this machine."""
    if isinstance(value, dict):
        return {key: without_places(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(one) for one in value]
    return OWN_PLACE.sub(last_part, value) if isinstance(value, str) else value


def last_part(found: re.Match[str]) -> str:
    return f"…/{found[0].rsplit('/', 1)[-1]}"


def loaded(facts: Facts, dtype: torch.dtype | None) -> AudioLM:
    """Read the checkpoint with all checks, so that no damaged one is published."""
    return load(facts.checkpoint, dtype=dtype or torch.float32)
