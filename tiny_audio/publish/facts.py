"""The contents of a run's files. The card is made from them alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_audio.files import read_json
from tiny_audio.model.errors import ConfigError
from tiny_audio.presets import shipped
from tiny_audio.train.folder import MACHINES, read_recipe

CURE = "It was written by `tiny-audio train`; repeat that command, or push another folder."


@dataclass(frozen=True)
class Stage:
    """A finished stage: steps and seconds of `done.json`, parameters of `table.json`."""

    name: str
    steps: int
    seconds: float
    parameters: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Facts:
    """The contents of a run's folder; a checkpoint alone has its `config` and nothing else."""

    checkpoint: Path
    config: dict[str, Any]
    folder: Path | None = None  # of the run
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
    machines: Sequence[dict[str, Any]] = ()
    evaluations: Sequence[tuple[dict[str, Any], list[Any]]] = ()  # results, and their utterances

    @property
    def seconds(self) -> float:
        """Return the time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def hours(self) -> dict[str, float]:
        """Return the hours of speech by source."""
        return dict(self.data.get("hours", {}))


def gather(run: str, results: Sequence[Path] = ()) -> Facts:
    """Read the facts of a run's folder or of a checkpoint, and results that predictions prove."""
    folder = Path(shipped(run))
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {run}; give a run's folder, or a checkpoint's.")
    checkpoint = folder / "model" if (folder / "recipe.yaml").is_file() else folder
    if not (checkpoint / "config.json").is_file():
        raise ConfigError(
            f"{folder} holds no model yet: {checkpoint / 'config.json'} is not there. Let the "
            f"training end first: tiny-audio train {folder / 'recipe.yaml'}"
        )
    config = read_json(checkpoint / "config.json", CURE)
    proved = [_proved(path) for path in results]
    if checkpoint == folder:
        return Facts(checkpoint, config, evaluations=proved)
    return Facts(
        checkpoint,
        config,
        folder,
        read_recipe(folder / "recipe.yaml"),
        _optional(folder / "data.json"),
        _optional(folder / "result.json"),
        list(_stages(folder)),
        _lines(folder / MACHINES),
        proved,
    )


def _stages(folder: Path) -> Iterator[Stage]:
    for name in read_recipe(folder / "recipe.yaml").get("stages", {}):
        done = read_json(folder / name / "done.json", CURE)
        table = read_json(folder / name / "table.json", CURE)
        yield Stage(name, done["step"], done["elapsed_s"], table)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path, CURE) if path.is_file() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a JSON Lines file; there are none if an older run lacks the file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _proved(path: Path) -> tuple[dict[str, Any], list[Any]]:
    from tiny_audio.evaluate.proof import prove

    return prove(path)


def refuse_foreign(facts: Facts, model: Any, name: str) -> None:
    """Refuse a result that was measured with other weights than this model's."""
    if not facts.evaluations:
        return
    from tiny_audio.evaluate.systems import OurModel
    from tiny_audio.infer.transcriber import Transcriber

    about = OurModel(name, Transcriber(model)).about()
    for result, _ in facts.evaluations:
        system = result["system"] or {}
        if system.get("checkpoint") != about["checkpoint"]:
            raise ConfigError(
                f"The result on {result['dataset'].get('name')} is of another model "
                f"({system.get('name')}). Measure this one: tiny-audio eval {facts.checkpoint} "
                f"--dataset NAME --out FOLDER"
            )
