"""Choosing the clips of an evaluation, their order, and which of them are answered together."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tiny_audio.data.examples import Dropped, Example, Limits, SourceConfig, read_source
from tiny_audio.data.stream import ExampleStream
from tiny_audio.model.errors import ConfigError

# Nothing is left out for its length or because nothing is said in it.
ALL = Limits(min_s=0.0, max_s=float("inf"), empty=True)
LOOK_AHEAD = 128  # clips that are sorted by their length, so that little is padded
BUFFER = 256  # clips of a stream among which the next one is drawn


def choose(
    source: SourceConfig, where: Sequence[str], seed: int, max_samples: int, dropped: Dropped
) -> Iterable[Example]:
    """Return the clips in drawn order: a list of a source on this disk, an iterator of a stream.

    `where` holds COLUMN=VALUE, all of which must hold. A stream is shuffled within a buffer.
    """
    if source.streaming:
        drawn = mixed(kept(streamed(source, dropped), where), seed)
        return islice(drawn, max_samples or None)
    examples = list(kept(read_source("dataset", source, ALL, dropped), where))
    if not examples:
        counts = dict(dropped.counts())
        filters = f" with {', '.join(where)}" if where else ""
        raise ConfigError(f"{source.path} has no usable clip{filters}; left out: {counts}.")
    random.Random(seed).shuffle(examples)
    return examples[: max_samples or None]


def streamed(source: SourceConfig, dropped: Dropped) -> Iterator[Example]:
    """Yield the clips of a stream, one after the other."""
    stream, state = ExampleStream("dataset", source, ALL, dropped), None
    while True:
        taken, state = stream.take(1, state)
        yield from taken
        if state is None:
            return


def mixed(examples: Iterable[Example], seed: int) -> Iterator[Example]:
    """Yield every clip once, each drawn from the next `BUFFER` ones."""
    rng, held = random.Random(seed), list[Example]()
    for example in examples:
        held.append(example)
        if len(held) == BUFFER:
            yield held.pop(rng.randrange(BUFFER))
    rng.shuffle(held)
    yield from held


def kept(examples: Iterable[Example], where: Sequence[str]) -> Iterator[Example]:
    """Yield the clips whose columns have the values that `where` asks for."""
    asked = [_filter(one) for one in where]
    for example in examples:
        if all(_value(example, column) == value for column, value in asked):
            yield example


def _filter(text: str) -> tuple[str, str]:
    column, found, value = text.partition("=")
    if not found or not column:
        raise ConfigError(f"--where {text!r} is no filter; expected COLUMN=VALUE: speaker=theo.")
    return column, value


def _value(example: Example, column: str) -> str:
    if column not in example.columns:
        raise ConfigError.unknown(column, example.columns, example.where)
    return column_text(example.columns[column])


def column_text(value: Any) -> str:
    """Return a value of a column as it is typed and shown: 16 for 16.0, "" for nothing."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def batches(examples: Iterable[Example], batch_s: float) -> Iterator[list[Example]]:
    """Yield clips of like length together, as many as fit into `batch_s` seconds when padded; no
    more than `LOOK_AHEAD` are held. The same clips always make the same batches, in the same order.
    """
    ahead, rng = iter(examples), random.Random(0)
    while window := list(islice(ahead, LOOK_AHEAD)):
        cut = cut_by_seconds(sorted(window, key=lambda one: one.duration_s), batch_s)
        rng.shuffle(cut)  # else a run would begin with the shortest clips
        yield from cut


class Timed(Protocol):
    """An object with a duration."""

    @property
    def duration_s(self) -> float: ...


T = TypeVar("T", bound=Timed)


def cut_by_seconds(items: Sequence[T], batch_s: float) -> list[list[T]]:
    """Yield consecutive items, as many as fit into `batch_s` when padded to the longest."""
    batches: list[list[T]] = [[]]
    for item in items:
        longest_s = max([item.duration_s, *(i.duration_s for i in batches[-1])])
        if batches[-1] and longest_s * (len(batches[-1]) + 1) > batch_s:
            batches.append([])
        batches[-1].append(item)
    return batches


def identifier(example: Example, source: SourceConfig) -> str:
    """Return where a clip stands in its dataset, the same wherever the dataset lies."""
    return place(example.where, source.path)


def place(where: str, source: str) -> str:
    """Return where a row stands in its source, without the folder of that."""
    path = Path(source).expanduser()
    folder = path if path.is_dir() else path.parent
    return where.removeprefix(f"{folder}/")
