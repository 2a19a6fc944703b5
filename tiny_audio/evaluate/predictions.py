"""Predictions as JSON Lines: the reference, the answer, and how the answer ended.

A clip that could not be answered has no hypothesis: it is a failure, never an empty text with a
score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tiny_audio.data.manifest import Unusable, read_rows
from tiny_audio.files import json_line, without_nan
from tiny_audio.model.errors import ConfigError

# How an answer ended. "ok" and "no_speech" are whole; "error" has no hypothesis.
Outcome = Literal["ok", "no_speech", "cut_off", "loop", "error"]


UNKNOWN_S = 0.0


@dataclass(frozen=True)
class Prediction:
    """The prediction for one clip. `id` names it in its dataset (`train.jsonl:17`) and is there
    once in a file.
    """

    id: str
    ref: str
    hyp: str | None  # as the system wrote it, not normalised; None: it failed
    outcome: Outcome
    duration_s: float  # UNKNOWN_S in a file of another program that does not say it
    seconds: float  # wall time of its share of a batch
    error: str = ""
    audio: str = ""  # path of the file, where there is one
    prompt: str = ""  # what was asked, where it was not the model's own instruction
    confidence: float | None = None
    columns: dict[str, Any] = field(default_factory=dict)  # speaker, gender, age, noise, …

    def to_line(self) -> str:
        """Return one line of a file, with its end; NaN in a column is null, as JSON has none."""
        return json_line(without_nan(asdict(self))) + "\n"


@dataclass(frozen=True)
class Fields:
    """The names of reference and hypothesis in a file that another program wrote."""

    ref: str = "ref"
    hyp: str = "hyp"


FIELDS = {one.name: one for one in fields(Prediction)}
REQUIRED = [n for n, f in FIELDS.items() if f.default is f.default_factory is MISSING]
NUMBERS = (int, float)
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(FIELDS, (str,)),
    "hyp": (str, type(None)),
    "duration_s": NUMBERS,
    "seconds": NUMBERS,
    "confidence": (*NUMBERS, type(None)),
    "columns": (dict,),
}


def read_predictions(path: Path, foreign: Fields | None = None) -> list[Prediction]:
    """Read all lines of a file; `foreign` says which fields another program's file has.

    `ConfigError` names the line and the field that is missing, unknown or of another type, and an
    id that is there twice.
    """
    if not path.is_file():
        raise ConfigError(f"There are no predictions: {path} does not exist.")
    read, seen = list[Prediction](), dict[str, int]()
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        if isinstance(row, Unusable):
            raise ConfigError(f"{where} is no prediction: {row}.")
        one = _from_row(row, where) if foreign is None else _adopted(row, foreign, where, number)
        if one.id in seen:
            raise ConfigError(f"{where} has the id {one.id!r}, which line {seen[one.id]} has too.")
        seen[one.id] = number
        read.append(one)
    if not read:
        raise ConfigError(f"{path} holds no predictions.")
    return read


def _from_row(row: dict[str, Any], where: str) -> Prediction:
    for name in row:
        if name not in FIELDS:
            raise ConfigError.unknown(name, FIELDS, f"A prediction ({where})")
    if missing := [name for name in REQUIRED if name not in row]:
        raise ConfigError(
            f"{where} has no {missing[0]!r}. A file that another program wrote is read with "
            "--ref-field NAME --hyp-field NAME."
        )
    for name, value in row.items():
        _check_type(name, value, TYPES[name], where)
    if row["outcome"] not in get_args(Outcome):
        valid = ", ".join(get_args(Outcome))
        raise ConfigError(f"{where} has the outcome {row['outcome']!r}. Valid: {valid}.")
    if (row["hyp"] is None) != (row["outcome"] == "error"):
        raise ConfigError(f"{where}: hyp is null if, and only if, the outcome is an error.")
    return Prediction(**row)


def _check_type(name: str, value: Any, types: tuple[type, ...], where: str) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise ConfigError(f"{where}: {name} is {value!r}, expected {expected}.")
    if isinstance(value, NUMBERS) and not 0 <= value < 1e9:  # NaN is neither
        raise ConfigError(f"{where}: {name} is {value!r}, expected a number that is not negative.")


def _adopted(row: dict[str, Any], named: Fields, where: str, number: int) -> Prediction:
    """Read another program's row: all but the texts, the id, the length, and the outcome where it
    is one of ours are columns.
    """
    for name, types in ((named.ref, (str,)), (named.hyp, (str, type(None)))):
        if name not in row:
            raise ConfigError.unknown(name, row, where)
        _check_type(name, row[name], types, where)
    hyp, length = row[named.hyp], row.get("duration_s", row.get("duration"))
    outcome = row["outcome"] if row.get("outcome") in get_args(Outcome) else None
    failed = hyp is None or (outcome == "error" and not hyp)
    taken = {named.ref, named.hyp, "id", "duration_s", "duration"}
    taken |= {"outcome", "error"} if outcome else set()
    return Prediction(
        id=str(number if row.get("id") is None else row["id"]),
        ref=row[named.ref],
        hyp=None if failed else hyp,
        outcome="error" if failed else "ok" if outcome in (None, "error") else outcome,
        duration_s=_length(length),
        seconds=0.0,
        error=str(row.get("error") or "no hypothesis") if failed else "",
        columns={name: value for name, value in row.items() if name not in taken},
    )


def _length(value: Any) -> float:
    """Return seconds; whatever is none of them (null, a text, less than nothing) is unknown."""
    number = isinstance(value, NUMBERS) and not isinstance(value, bool)
    return float(value) if number and 0 < value < 1e9 else UNKNOWN_S


def mend(path: Path) -> None:
    """Cut off a last line that a killed run did not finish."""
    if path.is_file():
        written = path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            with path.open("r+b") as file:
                file.truncate(whole)


def lines_of(path: Path) -> Iterator[Prediction]:
    """Yield the predictions of a run so far; none before its first."""
    if path.is_file() and path.stat().st_size:
        yield from read_predictions(path)
