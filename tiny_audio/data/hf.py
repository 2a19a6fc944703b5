"""Opening datasets of the Hub's library, by id or folder, without decoding anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_audio.data.fields import AUDIO, REFUSED, TEXT, TIMES, check_columns, column
from tiny_audio.data.rows import Row
from tiny_audio.data.sounds import HubSound
from tiny_audio.model.errors import ConfigError, needing

EXPECTED = "Expected hf:ID, hf:ID:CONFIG, or a folder made by save_to_disk or of parquet files."
LOOSE = (
    "The library reads loose audio files and tar shards only with torchcodec: download them, and "
    "give their folder or tar as path, without hf:."
)


def is_dataset(path: str) -> bool:
    """Tell whether a source is a dataset: `hf:…`, or a folder that the library wrote."""
    if path.startswith("hf:"):
        return True
    folder = Path(path).expanduser()
    parquet = (path for depth in ("", "*/") for path in folder.glob(f"{depth}*.parquet"))
    return folder.is_dir() and (_is_saved(folder) or any(parquet))


def _is_saved(folder: Path) -> bool:
    """Tell whether `save_to_disk` made a folder, of one split or of several."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def open_dataset(path: str, split: str, columns: list[str], streaming: bool = False) -> Any:
    """Open a `Dataset` or `IterableDataset` with its part of `columns`, audio as stored bytes.

    The first two columns, audio and text, have to be there, by one of their names (`names_in`).
    Times come with them, to be compared. `ConfigError` says what the library
    could not find, `MissingExtra` that it is not installed.
    """
    with needing(f"Reading {path}", "hf"):
        import datasets
    try:
        found = _load(path.removeprefix("hf:"), split, streaming)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, ImportError) as error:
        problem = f"{path}, split {split!r}, cannot be loaded as a dataset"
        raise ConfigError(f"{problem}: {_explained(error)}") from error
    if found.features is None:  # of a streamed CSV: known when the first row comes
        return found
    check_columns(f"The dataset {path}", found.features, *columns[:2])
    audio, text = names_in(found, columns)
    wanted = dict.fromkeys((audio, text, *columns[2:], *TIMES, *REFUSED))
    found = found.select_columns([one for one in wanted if one in found.features])
    if isinstance(found.features[audio], datasets.Audio):
        found = found.cast_column(audio, datasets.Audio(decode=False))
    return found


def names_in(dataset: Any, columns: list[str]) -> tuple[str, str]:
    """Return the names of the audio and text columns, the first two of `columns`, in a dataset."""
    there = dataset.features or {}
    return column(AUDIO, columns[0], there), column(TEXT, columns[1], there)


def _load(name: str, split: str, streaming: bool) -> Any:
    import datasets

    folder = Path(name).expanduser()
    if not _is_saved(folder):
        name, _, part = (str(folder), "", "") if folder.is_dir() else name.partition(":")
        return datasets.load_dataset(name, part or None, split=split, streaming=streaming)
    found = datasets.load_from_disk(str(folder))
    if not isinstance(found, datasets.DatasetDict):
        if found.split is not None and str(found.split) != split:
            raise ValueError(f"It holds the split {str(found.split)!r}.")
    elif split in found:
        found = found[split]
    else:
        raise ValueError(f"It holds the splits {', '.join(map(repr, found))}.")
    return found.to_iterable_dataset() if streaming else found


def _explained(error: BaseException) -> str:
    """Join what the library says, what the first error of its chain says, and what to do."""
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if isinstance(root, ImportError):
        return f"{root}. {LOOSE}"
    reasons = dict.fromkeys(str(one).strip().rstrip(".") for one in (error, root))
    return f"{'; '.join(reasons)}. {EXPECTED}"


def streamed(path: str, dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of an `IterableDataset`; say what to do where they would need torchcodec."""
    try:
        yield from dataset
    except ImportError as error:
        raise ConfigError(f"{path} cannot be streamed: {_explained(error)}") from error


def labels_of(dataset: Any, column: str) -> list[str]:
    """Return the names that the numbers in a column stand for; empty when they are no labels."""
    import datasets

    feature = (dataset.features or {}).get(column)
    return feature.names if isinstance(feature, datasets.ClassLabel) else []


def named(fields: dict[str, Any], column: str, labels: list[str]) -> dict[str, Any]:
    """Return the row with its label's number replaced by its name."""
    number = fields.get(column)
    if isinstance(number, int) and 0 <= number < len(labels):
        return {**fields, column: labels[number]}
    return fields


def dataset_rows(path: str, split: str, columns: list[str]) -> Iterator[Row]:
    """Yield all rows of a dataset on disk; audio is read when a sound is asked for it."""
    dataset = open_dataset(path, split, columns)
    audio, text = names_in(dataset, columns)
    labels = labels_of(dataset, text)
    for index, fields in enumerate(dataset.remove_columns(audio)):
        where = f"{path}:{split}[{index}]"
        yield Row(where, HubSound(where, dataset, index, audio), named(fields, text, labels))
