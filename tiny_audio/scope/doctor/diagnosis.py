"""Saying what is wrong with a training run and what to do next, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tiny_audio.files import read_json
from tiny_audio.model.errors import ConfigError
from tiny_audio.scope.doctor import listening, texts, training, waste
from tiny_audio.scope.doctor.log import Finding, Log
from tiny_audio.train.folder import read_recipe
from tiny_audio.train.track import read_metrics

CHECKS = (*listening.CHECKS, *texts.CHECKS, *training.CHECKS, *waste.CHECKS)
RESULT = "result.json"  # the evaluation of all validation clips, of a run that has ended
STYLES = {"wrong": "bold red", "note": "yellow", "ok": "green"}


def diagnose(run: Path) -> list[Finding]:
    """Return all findings about a run's folder, the worst first."""
    log = Log(read_metrics(run), _object(run / "data.json"), _recipe(run), _object(run / RESULT))
    if log.recipe and "stages" not in log.recipe:
        raise ConfigError(
            f"{run} is a run of train-head: its result.json and metrics.jsonl say how many words "
            f"are wrong. This command reads the runs of train and quickstart."
        )
    found = [finding for check in CHECKS for finding in check(log)]
    found += [
        Finding("note", f"{run} has no {name}, so nothing is said about {what}.")
        for name, what in (("data.json", "its clips"), ("recipe.yaml", "what was asked for"))
        if not (run / name).is_file()
    ]
    return sorted(found, key=lambda finding: list(STYLES).index(finding.level))


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return read_json(path, "Delete it and look again.")


def _recipe(run: Path) -> dict[str, Any]:
    path = run / "recipe.yaml"
    return read_recipe(path) if path.is_file() else {}


def render(findings: list[Finding]) -> RenderableType:
    """Show findings as a table: how bad, what was seen and what to do."""
    table = Table(show_header=False, box=None, padding=(0, 2, 1, 0))
    for finding in findings:
        shown = Text(finding.text)
        if finding.step:
            shown.append(f"\n→ {finding.step}", style="italic")
        table.add_row(Text(finding.level, style=STYLES[finding.level]), shown)
    return table
