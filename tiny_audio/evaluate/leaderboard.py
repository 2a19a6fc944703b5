"""A leaderboard whose every row is a result that its predictions prove.

`leaderboard.jsonl` holds the rows; `LEADERBOARD.md` and `leaderboard.html` are made from it.
Systems are ranked where they were measured alike: on the same clips, with the same normaliser. A
rank is a range: as good as the intervals allow, as bad as the intervals allow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny_audio.evaluate.evaluator import PREDICTIONS
from tiny_audio.evaluate.proof import prove
from tiny_audio.evaluate.result import Result
from tiny_audio.evaluate.view import cut, percent
from tiny_audio.files import write_text
from tiny_audio.infer.formats import clean
from tiny_audio.model.errors import ConfigError, needing

with needing("A leaderboard", "eval"):
    import jinja2

ROWS, MARKDOWN, PAGE = "leaderboard.jsonl", "LEADERBOARD.md", "leaderboard.html"


@dataclass(frozen=True)
class Row:
    """A row with one result. `proof` is the SHA-256 of its predictions."""

    system: str
    dataset: str
    clips_sha256: str
    clips: int
    failed: int
    normalizer: str
    wer: float
    low: float
    high: float
    real_time_factor: float | None
    hardware: str
    date: str
    commit: str
    command: str
    proof: str

    @property
    def group(self) -> tuple[str, str, str]:
        """Return what has to be the same for two rows to be ranked together."""
        return self.dataset, self.normalizer, self.clips_sha256

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what tells this row from others; a normaliser is a part of it."""
        return self.system, self.dataset, self.normalizer, self.proof

    @property
    def short_commit(self) -> str:
        """Return twelve digits, and whether the code was changed."""
        digits, _, changed = self.commit.partition("-")
        return f"{digits[:12]}-{changed}" if changed else digits[:12]


def add(results: Iterable[Path], folder: Path) -> tuple[int, list[Row]]:
    """Add results (run folders or their result.json); return how many are new, and all rows.

    Nothing is written unless all of them can be proved. A result that is there changes nothing.
    """
    rows = read_rows(folder)
    known = {row.key for row in rows}
    fresh = {row.key: row for row in map(row_of, results) if row.key not in known}
    rows += fresh.values()
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    for name, text in ((ROWS, lines), (MARKDOWN, markdown(rows)), (PAGE, page(rows))):
        _replace(folder / name, text)
    return len(fresh), rows


def _replace(path: Path, text: str) -> None:
    """Write the file whole or not at all; leave it alone where nothing changed."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    write_text(path, text)


def read_rows(folder: Path) -> list[Row]:
    """Return the rows that are there."""
    path = folder / ROWS
    if not path.is_file():
        return []
    try:
        return [Row(**json.loads(line)) for line in path.read_bytes().splitlines()]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no leaderboard ({error}). Add its results anew.") from error


def row_of(path: Path) -> Row:
    """Return the row of a result; `ConfigError` where it is not proved or has no provenance."""
    result, _ = prove(path)
    folder = path if path.is_dir() else path.parent
    _check_provenance(result, folder)
    scores, made, wer = result["scores"], result["made"], result["scores"]["wer"]
    return Row(
        system=result["system"]["name"],
        dataset=_dataset(result["dataset"]),
        clips_sha256=result["dataset"]["clips_sha256"],
        clips=scores["clips"],
        failed=scores["failed"],
        normalizer=f"{result['normalizer']['id']} ({result['normalizer']['version']})",
        wer=wer["rate"],
        low=wer["low"],
        high=wer["high"],
        real_time_factor=result["speed"]["real_time_factor"],
        hardware=_hardware(result["speed"]["hardware"]),
        date=made["date"],
        commit=made["commit"],
        command=made["command"],
        proof=hashlib.sha256((folder / PREDICTIONS).read_bytes()).hexdigest(),
    )


def _check_provenance(result: Result, folder: Path) -> None:
    needed = {
        "system": result["system"],
        "made": result["made"],
        "made.commit": (result["made"] or {}).get("commit"),
        "speed.hardware": result["speed"]["hardware"],
        "scores.wer.rate": result["scores"]["wer"]["rate"],
    }
    if missing := [name for name, value in needed.items() if value is None]:
        raise ConfigError(
            f"{folder} does not say where its figures come from: {', '.join(missing)} is missing. "
            "A leaderboard takes results of tiny-audio eval, run from a checkout with git."
        )


def _dataset(dataset: dict[str, Any]) -> str:
    """Return name, split and filters: what a reader has to know of the clips."""
    filters = "".join(f", {one}" for one in dataset["where"])
    drawn = f", {dataset['max_samples']} drawn" if dataset["max_samples"] else ""
    condition = f", {dataset['condition']}" if dataset["condition"] else ""
    return f"{dataset['name']}{filters}{drawn}{condition}"


def _hardware(made: dict[str, Any]) -> str:
    cpu = f"{made['cpu']}, {made['threads']} of {made['cores']} cores"
    return made["gpu"] or cpu


def grouped(rows: Sequence[Row]) -> list[tuple[Row, list[tuple[str, Row]]]]:
    """Return rows that were measured alike, the best first, each with its rank: "1", or "1–3"."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    found = []
    for _, members in sorted(groups.items()):
        members.sort(key=lambda row: (row.wer, row.system, row.date))
        found.append((members[0], [(rank(row, members), row) for row in members]))
    return found


def rank(row: Row, members: Sequence[Row]) -> str:
    """Return the rank, or the ranks from the best to the worst that are possible: a row is surely
    better if its interval ends before this one begins, and surely worse if it begins after this one
    ends.
    """
    best = 1 + sum(other.high < row.low for other in members)
    worst = len(members) - sum(other.low > row.high for other in members)
    return str(best) if best == worst else f"{best}–{worst}"


HEAD = "| rank | system | WER | 95 % interval | clips (failed) | RTF | hardware | date | commit |"


def markdown(rows: Sequence[Row]) -> str:
    """Return the leaderboard as a Markdown document."""
    lines = [
        "# Leaderboard",
        "",
        "Made by `tiny-audio leaderboard add RESULT`, of results whose predictions give the same",
        "figures again. Ranks are ranges where 95 % intervals overlap; a failed clip has all of",
        "its words deleted; RTF is seconds of computing for a second of audio.",
    ]
    for first, members in grouped(rows):
        lines += [
            "",
            f"## {_cell(first.dataset)}",
            "",
            f"Normaliser: {_cell(first.normalizer)}. Clips: ",
        ]
        lines[-1] += f"`{first.clips_sha256[:12]}`."
        lines += ["", HEAD, "|" + "---|" * 9]
        lines += [_line(ranked, row) for ranked, row in members]
        lines += ["", "<details><summary>commands</summary>", ""]
        lines += [f"- {_cell(row.system)}: {_code(row.command)}" for _, row in members]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _line(ranked: str, row: Row) -> str:
    factor = "n/a" if row.real_time_factor is None else f"{row.real_time_factor:.4f}"
    cells = (ranked, row.system, percent(row.wer), f"{percent(row.low)} – {percent(row.high)}")
    rest = (f"{row.clips} ({row.failed})", factor, row.hardware, row.date[:10], row.short_commit)
    return "| " + " | ".join(map(_cell, (*cells, *rest))) + " |"


def _cell(text: str) -> str:
    """Return a text as one line without markup: no cell, link, image or element begins in it."""
    return re.sub(r"([\\`|\[\]])", r"\\\1", clean(cut(text))).replace("<", "&lt;")


def _code(text: str) -> str:
    """Return a command as it was typed, on one line; its fence is longer than any that it holds."""
    line = clean(cut(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def page(rows: Sequence[Row]) -> str:
    """Return the leaderboard as one sortable HTML page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    environment.filters |= {"percent": percent, "cut": lambda text: clean(cut(text))}
    return environment.get_template("leaderboard.html.jinja").render(groups=grouped(rows))
