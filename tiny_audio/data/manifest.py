"""Manifests: JSON Lines, one clip a line, with `audio` (relative to the manifest) and `text`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Manifest:
    """Usable rows, `audio` made absolute, and how many lines were skipped for which reason."""

    rows: list[dict[str, Any]]
    skipped: Counter[str] = field(default_factory=Counter)


def read_manifest(path: Path, needs: tuple[str, ...] = ("text",)) -> Manifest:
    """Read a manifest. A line that cannot be used is skipped and counted, never lost silently."""
    rows, skipped = [], Counter[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        row = _parsed(line)
        if reason := _problem(row, path.parent, needs):
            skipped[reason] += 1
        else:
            rows.append({**row, "audio": str((path.parent / row["audio"]).resolve())})
    return Manifest(rows, skipped)


def _parsed(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _problem(row: dict[str, Any], folder: Path, needs: tuple[str, ...]) -> str | None:
    """Why a row cannot be used; None when it can."""
    if not row:
        return "not a JSON object"
    for key in ("audio", *needs):
        if key not in row:
            return f"no {key}"
        if not isinstance(row[key], str):
            return f"{key} is not a string"
    if not (folder / row["audio"]).is_file():
        return "no such file"
    return None


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One line a row; `audio` becomes relative to the manifest's folder where it lies below it."""
    lines = []
    for row in rows:
        audio = Path(row["audio"])
        inside = audio.is_absolute() and audio.is_relative_to(path.parent.resolve())
        name = audio.relative_to(path.parent.resolve()) if inside else audio
        lines.append(json.dumps({**row, "audio": str(name)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
