"""Datasets by name: where they are, which split and columns count, under which licence.

The English sets are those of the Open ASR Leaderboard, as it publishes them: sorted by length, one
configuration each. They are read as a stream; nothing is decoded but what is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.hf import is_dataset
from tiny_audio.model.errors import ConfigError, nearest

LEADERBOARD = "hf:hf-audio/esb-datasets-test-only-sorted"
HELD_OUT = Path(__file__).parents[1] / "data" / "quickstart" / "held-out" / "manifest.jsonl"


@dataclass(frozen=True)
class Known:
    """A dataset with a name. `licence` is that of the recordings, as their makers state it."""

    source: SourceConfig
    licence: str
    description: str


def _leaderboard(config: str, licence: str, description: str, split: str = "test") -> Known:
    source = SourceConfig(path=f"{LEADERBOARD}:{config}", split=split, streaming=True)
    return Known(source, licence, description)


def _loquacious(split: str) -> Known:
    source = SourceConfig(
        path="hf:speechbrain/LoquaciousSet:small",
        split=split,
        audio="wav",
        speaker="spk_id",
        streaming=True,
    )
    description = f"read, spontaneous and noisy English of many accents, its {split} part"
    return Known(source, "CC BY and others, by part; see its card", description)


DATASETS: dict[str, Known] = {
    "quickstart": Known(
        SourceConfig(path=str(HELD_OUT)),
        "ours, MIT",
        "300 clips of 44 synthetic voices, in this package",
    ),
    "ami": _leaderboard("ami", "CC BY 4.0", "meetings, headset microphones"),
    "earnings22": _leaderboard("earnings22", "CC BY-SA 4.0", "earnings calls, world English"),
    "gigaspeech": _leaderboard(
        "gigaspeech", "Apache 2.0, terms to agree to", "audiobooks, podcasts, YouTube"
    ),
    "librispeech_clean": _leaderboard(
        "librispeech", "CC BY 4.0", "audiobooks, clear speakers", "test.clean"
    ),
    "librispeech_other": _leaderboard(
        "librispeech", "CC BY 4.0", "audiobooks, harder speakers", "test.other"
    ),
    "spgispeech": _leaderboard(
        "spgispeech", "Kensho's own, not commercial", "earnings calls, with punctuation"
    ),
    "tedlium": _leaderboard("tedlium", "CC BY-NC-ND 3.0", "TED talks"),
    "voxpopuli": _leaderboard("voxpopuli", "CC0", "the European Parliament"),
    "loquacious": _loquacious("test"),
    "loquacious_dev": _loquacious("dev"),
}


def dataset(name: str) -> SourceConfig:
    """Return the source that a name stands for, or that a manifest, a folder, a tar or
    `hf:ID[:CONFIG][@SPLIT]` is.

    Of a dataset of the Hub's library the split is "test" where none is named.
    """
    if name in DATASETS:
        return DATASETS[name].source
    path, at, split = name.rpartition("@")
    if not at or Path(name).exists():
        path, split = name, ""
    if is_dataset(path):
        return SourceConfig(path=path, split=split or "test", streaming=path.startswith("hf:"))
    if not Path(name).expanduser().exists() and "*" not in name:
        guess = nearest(name, DATASETS)
        raise ConfigError(
            f"There is no dataset {name!r}: no dataset, file or folder has this name."
            + (f" Did you mean {guess!r}?" if guess else "")
            + " Type tiny-audio datasets for the names; or give a path, or hf:ID:CONFIG@SPLIT."
        )
    return SourceConfig(path=name)


HEADS = ("name", "where", "split", "audio", "text", "licence", "what")


def lines() -> list[tuple[str, ...]]:
    """Return all that is known of every name, in the order of `HEADS`."""
    found = list[tuple[str, ...]]()
    for name, known in DATASETS.items():
        source = known.source
        where = source.path if source.streaming else "in this package"
        columns = (source.split, source.audio, source.text)
        found.append((name, where, *columns, known.licence, known.description))
    return found


def table() -> Table:
    """Return all that is known of every name, as a table for a terminal."""
    rows = Table(*HEADS, box=None)
    for line in lines():
        rows.add_row(*line)
    return rows
