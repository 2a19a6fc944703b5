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


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. A line that cannot be used is skipped and counted, never lost silently."""
    rows, skipped = [], Counter[str]()
    with path.open("rb") as lines:
        for line in filter(bytes.strip, lines):
            try:
                rows.append(_usable(line, path.parent))
            except ValueError as reason:
                skipped[str(reason)] += 1
    return Manifest(rows, skipped)


def _usable(line: bytes, folder: Path) -> dict[str, Any]:
    """The row, `audio` made absolute; a ValueError says why it cannot be used."""
    row = _parsed(line)
    for key in ("audio", "text"):
        if key not in row:
            raise ValueError(f"no {key}")
        if not isinstance(row[key], str):
            raise ValueError(f"{key} is not a string")
    audio = folder / row["audio"]
    if not audio.is_file():
        raise ValueError("no such file")
    return {**row, "audio": str(audio.resolve())}


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("not a JSON object") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One line a row; `audio` becomes relative to the manifest's folder where it lies below it."""
    lines = []
    for row in rows:
        audio = Path(row["audio"])
        inside = audio.is_absolute() and audio.is_relative_to(path.parent.resolve())
        name = audio.relative_to(path.parent.resolve()) if inside else audio
        lines.append(json.dumps({**row, "audio": str(name)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
