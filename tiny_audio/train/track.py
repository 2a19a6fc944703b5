"""Reading rows of metrics back from a run's folder, and showing them in a tracker if one is asked
for.

All trackers stay on this machine: wandb is offline unless WANDB_MODE says otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_audio.files import json_line, write_text
from tiny_audio.model.errors import ConfigError, needing

METRICS = "metrics.jsonl"
PROJECT = "tiny-audio"

Row = dict[str, Any]
Track = Callable[[Row], None]


def read_metrics(run: Path) -> list[Row]:
    """Return all rows of a run, in order; a last line that is still being written is left out."""
    path = run / METRICS
    if not path.is_file():
        above = run.resolve().parent
        if (above / METRICS).is_file():
            raise ConfigError(
                f"{run} is a part of a run, and not its folder. Give {run.parent} instead."
            )
        raise ConfigError(
            f"There is no {path}. Give the folder that a training run writes (runs/NAME, or the "
            f"recipe's output)."
        )
    lines = path.read_bytes().splitlines(keepends=True)  # of a text, U+2028 would end one
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}:{number} is no row of JSON ({error}). Delete this line."
            ) from error
    return rows


def _row(line: bytes) -> Row:
    row = json.loads(line.decode("utf-8", "replace"))
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise ValueError("expected an object with a step")
    return row


def forget_after(run: Path, stage: str, step: int) -> None:
    """Remove rows of steps that are computed again."""
    path = run / METRICS
    if path.exists():
        kept = [r for r in read_metrics(run) if r.get("stage") != stage or r["step"] <= step]
        write_text(path, "".join(json_line(r) + "\n" for r in kept))


def tracker(name: str, run: Path, recipe: dict[str, Any]) -> Track:
    """Return what to call with every row. `name` is "", "wandb", "trackio" or "tensorboard"; the
    library of that name is imported here and nowhere else.
    """
    if name not in TRACKERS:
        raise ConfigError.unknown(name, TRACKERS, "The table of trackers")
    return TRACKERS[name](run, recipe)


def numbers(row: Row) -> dict[str, float]:
    """Return a row's numbers as "stage/kind/name"; texts and tables are left to the files."""
    return {
        f"{row['stage']}/{row['kind']}/{key}": value
        for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "step"
    }


def _nothing(run: Path, recipe: dict[str, Any]) -> Track:
    return lambda row: None


def _wandb(run: Path, recipe: dict[str, Any]) -> Track:
    logger = _library("wandb").init(
        project=PROJECT,
        name=run.name,
        dir=str(run),
        config=recipe,
        mode=os.environ.get("WANDB_MODE", "offline"),
    )
    known: set[str] = set()

    def track(row: Row) -> None:
        stage = row["stage"]
        if stage not in known:  # every stage counts its own steps
            known.add(stage)
            logger.define_metric(f"{stage}/step")
            logger.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        logger.log({f"{stage}/step": row["step"], **numbers(row)})

    return track


def _trackio(run: Path, recipe: dict[str, Any]) -> Track:
    logger = _library("trackio").init(
        project=PROJECT, name=run.name, config=recipe, resume="allow", embed=False
    )
    return lambda row: logger.log({f"{row['stage']}/step": row["step"], **numbers(row)})


def _tensorboard(run: Path, recipe: dict[str, Any]) -> Track:
    logger = _library("torch.utils.tensorboard").SummaryWriter(str(run / "tensorboard"))
    logger.add_text("recipe", f"```json\n{json.dumps(recipe, indent=1)}\n```")

    def track(row: Row) -> None:
        for key, value in numbers(row).items():
            logger.add_scalar(key, value, row["step"])
        logger.flush()  # a run may be killed at any time

    return track


def _library(name: str) -> Any:
    with needing(f"Tracking with {name.split('.')[-1]}", "track"):
        return import_module(name)


TRACKERS: dict[str, Callable[[Path, dict[str, Any]], Track]] = {
    "": _nothing,
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}
