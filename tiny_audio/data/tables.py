"""Reading tables of other programs: CSV, TSV, a JSON array, JSON Lines called .json.

A row that cannot be read becomes an `Unusable`; a table that cannot be read raises a `ConfigError`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_audio.data.fields import check_columns
from tiny_audio.data.manifest import Unusable, read_rows
from tiny_audio.model.errors import ConfigError

LINE_END = "a line ends within a cell that is not quoted"
Found = tuple[str, dict[str, Any] | Unusable]  # where, and what stands there


def read_table(path: Path, audio: str, text: str) -> Iterator[Found]:
    """Yield the rows of a table, which must have `audio` and `text` by one of their names."""
    return READERS[path.suffix.lower()](path, audio, text)


def _lines(path: Path, audio: str = "", text: str = "") -> Iterator[Found]:
    for number, row in read_rows(path):
        yield f"{path}:{number}", row


def _json(path: Path, audio: str, text: str) -> Iterator[Found]:
    """Read an array of objects, or JSON Lines, as NeMo calls its manifests."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip()
    if not data.startswith(b"[") and (b"\n{" in data.rstrip() or _is_row(data)):
        yield from _lines(path)
        return
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON ({error}). Write it again.") from error
    if not isinstance(found, list):
        keys = ", ".join(list(found)[:8]) if isinstance(found, dict) else type(found).__name__
        raise ConfigError(
            f"{path} holds one object ({keys}). Expected an array of rows with audio and text, or "
            "JSON Lines: one such row a line."
        )
    for number, row in enumerate(found):
        at = f"{path}[{number}]"
        yield at, row if isinstance(row, dict) else Unusable("not a JSON object")


def _is_row(data: bytes) -> bool:
    """Tell whether a text is a manifest of one row: one object on one line, which may be a clip."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    nested = any(isinstance(value, list) for value in found.values()) if found else True
    return b"\n" not in data.strip() and isinstance(found, dict) and not nested


def _csv(path: Path, audio: str, text: str) -> Iterator[Found]:
    """Read CSV with quoted cells; the header shows their separator: comma, semicolon, tab, bar."""
    with path.open("rb") as lines:
        header = next(iter(lines), b"").decode("utf-8-sig", "surrogateescape")
    try:
        parts = {mark: next(csv.reader([header], delimiter=mark), []) for mark in ",;\t|"}
    except csv.Error as error:
        raise ConfigError(
            f"{path} has no header that can be read ({error}). Expected columns, and lines that "
            "end as on Linux or Windows."
        ) from error
    mark = max(parts, key=lambda one: len(parts[one]))
    reader = csv.reader(_texts(path), delimiter=mark, strict=True)
    return _records(path, _counted(reader), audio, text)


def _counted(reader: Any) -> Iterator[tuple[int, list[str] | Unusable]]:
    """Yield records with the number of their first line."""
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            within = "new-line character" in str(error)
            yield number, Unusable(LINE_END if within else "quotation marks do not match")


def _tsv(path: Path, audio: str, text: str) -> Iterator[Found]:
    """Read TSV, one record a line; a quotation mark opens no cell (Common Voice has such texts)."""
    cells = (
        (
            number,
            [_unquoted(cell) for cell in line.rstrip("\r\n").split("\t")] if line.strip() else [],
        )
        for number, line in enumerate(_texts(path), 1)
    )
    return _records(path, cells, audio, text)


def _unquoted(cell: str) -> str:
    """Remove the quotation marks of a writer that doubles those within."""
    inner = cell[1:-1].replace('""', "")
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if quoted else cell


def _texts(path: Path) -> Iterator[str]:
    """Yield lines; bytes that are not UTF-8 are shown as escapes."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            yield line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")


def _records(
    path: Path, records: Iterable[tuple[int, Sequence[str] | Unusable]], audio: str, text: str
) -> Iterator[Found]:
    records = iter(records)
    _, header = next(records, (1, Unusable("no header")))
    if isinstance(header, Unusable) or any(_foreign(name) for name in header):
        raise ConfigError(f"{path} has no header that can be read. Expected UTF-8, and columns.")
    names = [name.strip() for name in header]
    check_columns(f"The table {path}", names, audio, text)
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise ConfigError(f"The table {path} has the column {twice[0]!r} twice.")
    for number, cells in records:
        if isinstance(cells, Unusable):
            yield f"{path}:{number}", cells
        elif cells:
            yield f"{path}:{number}", _row(names, cells)


def _row(names: Sequence[str], cells: Sequence[str]) -> dict[str, Any] | Unusable:
    if len(cells) != len(names):
        return Unusable("not as many cells as the header")
    if any(map(_foreign, cells)):
        return Unusable("not UTF-8")
    return dict(zip(names, cells, strict=True))


def _foreign(cell: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in cell)


READERS: dict[str, Callable[[Path, str, str], Iterator[Found]]] = {
    ".jsonl": _lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
}
