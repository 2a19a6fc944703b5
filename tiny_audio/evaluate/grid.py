"""Evaluating one system on one dataset under every condition of a grid: a run each, and one
table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from tiny_audio.evaluate.compare import paired, rates
from tiny_audio.evaluate.evaluator import PREDICTIONS, RunConfig, evaluate
from tiny_audio.evaluate.metrics import Utterance, utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.robustness import CLEAN, condition
from tiny_audio.evaluate.systems import System
from tiny_audio.evaluate.view import percent, points
from tiny_audio.files import held, write_json

GRID_FILE = "grid.json"
Ended = Callable[[str], None]


def run_grid(
    system: System,
    config: RunConfig,
    conditions: Sequence[str],
    folder: Path,
    ended: Ended = lambda name: None,
) -> dict[str, Any]:
    """Run every condition in a folder of its own (resumable, as any run) and write grid.json.

    Differences are to `clean`, which is always there, over the same clips drawn in pairs.
    """
    names = list(dict.fromkeys([CLEAN, *conditions]))
    for name in names:
        condition(name)  # all are refused before the first is run
    with held(folder):
        return _run_grid(system, config, names, folder, ended)


def _run_grid(
    system: System, config: RunConfig, names: Sequence[str], folder: Path, ended: Ended
) -> dict[str, Any]:
    normal, rows, clean = normalizer(config.normalizer), list[dict[str, Any]](), list[Utterance]()
    for name in names:
        result, run = evaluate(system, replace(config, condition=name), folder / safe(name))
        table = utterances(read_predictions(run / PREDICTIONS), normal)
        clean = clean or table
        rows.append(_row(name, table, clean))
        ended(name)
    shared = {key: result[key] for key in ("system", "normalizer", "seed", "made")}
    dataset = {**result["dataset"], "condition": None, "clips_sha256": None}
    grid = {"format": "tiny-audio grid 1", **shared, "dataset": dataset, "rows": rows}
    write_json(folder / GRID_FILE, grid)
    return grid


def safe(name: str) -> str:
    """Return a condition as the name of a folder."""
    return name.replace(":", "-").replace("@", "-")


def _row(name: str, table: list[Utterance], clean: list[Utterance]) -> dict[str, Any]:
    found = rates(paired(table, clean))
    return {
        "condition": name,
        "clips": found["clips"],
        "failed": sum(one.hyp is None for one in table),
        "wer": found["a"],
        "worse": found["difference"],
    }


def show_grid(grid: dict[str, Any]) -> Table:
    """Show a line for every condition: WER, its interval, and how much worse than clean."""
    clips = grid["rows"][0]["clips"]
    title = f"{grid['system']['name']} on {grid['dataset']['name']}, {clips} clips"
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("condition", no_wrap=True)
    for head in ("failed", "WER", "95 % interval", "worse by (points)", "95 % interval"):
        shown.add_column(head, justify="right")
    for row in grid["rows"]:
        ends = (*_ends(row["wer"]), *points(row["worse"]))
        shown.add_row(row["condition"], str(row["failed"]), *ends)
    return shown


def _ends(found: dict[str, float | None]) -> tuple[str, str]:
    low, high = found["low"], found["high"]
    return percent(found["rate"]), "n/a" if low is None else f"{percent(low)} – {percent(high)}"
