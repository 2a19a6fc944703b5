"""Manifests: JSON Lines, one clip a line, with `audio` (relative to the manifest) and `text`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_audio.files import write_text


@dataclass(frozen=True)
class Manifest:
    """Usable rows, with `audio` made absolute, and how many lines were skipped for which reason."""

    rows: list[dict[str, Any]]
    skipped: Counter[str] = field(default_factory=Counter)


class Unusable(Exception):  # noqa: N818 — it says what a row is
    """A row that cannot be used; the message is the reason, the same for all rows of its kind."""


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Unusable]]:
    """Yield the line number, from 1, and the content of every line that is not blank."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, parsed(line)


def parsed(line: bytes) -> dict[str, Any] | Unusable:
    """Return the JSON object, or the reason why there is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Unusable("not UTF-8")
    except (ValueError, RecursionError):  # not JSON, a number of 5,000 digits, endless brackets
        return Unusable("not a JSON object")
    return row if isinstance(row, dict) else Unusable("not a JSON object")


def string_in(row: dict[str, Any], key: str) -> str:
    """Return a field that must be there (null is not) and be a string; else raise `Unusable`."""
    if row.get(key) is None:
        raise Unusable(f"no {key}")
    if not isinstance(row[key], str):
        raise Unusable(f"{key} is not a string")
    return row[key]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. A line that cannot be used is skipped and counted, never lost silently."""
    rows, skipped = [], Counter[str]()
    for _, row in read_rows(path):
        try:
            rows.append(_usable(row, path.parent))
        except Unusable as reason:
            skipped[str(reason)] += 1
    return Manifest(rows, skipped)


def _usable(row: dict[str, Any] | Unusable, folder: Path) -> dict[str, Any]:
    """Return the row with `audio` made absolute; `Unusable` says why it cannot be used."""
    if isinstance(row, Unusable):
        raise row
    audio = folder / string_in(row, "audio")
    string_in(row, "text")
    if not audio.is_file():
        raise Unusable("no such file")
    return {**row, "audio": str(audio.resolve())}


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one line for each row; `audio` becomes relative to the manifest's folder."""
    lines = []
    for row in rows:
        audio = Path(row["audio"])
        inside = audio.is_absolute() and audio.is_relative_to(path.parent.resolve())
        name = audio.relative_to(path.parent.resolve()) if inside else audio
        lines.append(json.dumps({**row, "audio": str(name)}))
    write_text(path, "\n".join(lines) + "\n")
