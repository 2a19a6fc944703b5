"""Reading training samples: manifests, folders, tar shards, corpora, datasets of the Hub's library.

Nothing is decoded here: an `Example` knows its text, its duration (from the file's header) and how
to get its samples. What cannot be used is left out and counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np

from tiny_audio.data.fields import (
    AUDIO,
    NAMES,
    SPEAKER,
    TEXT,
    TIMES,
    check_length,
    column_in,
    refuse_fields,
    times_of,
)
from tiny_audio.data.hf import dataset_rows, is_dataset
from tiny_audio.data.manifest import Unusable, string_in
from tiny_audio.data.rows import Row, local_rows
from tiny_audio.data.text import Style, clean
from tiny_audio.model.config import StrictConfig
from tiny_audio.model.errors import AudioError, ConfigError


@dataclass(frozen=True, kw_only=True)
class SourceConfig(StrictConfig):
    """One set of clips: a manifest (.jsonl, .json, .csv, .tsv), a folder, tar shards, a corpus made
    by this library, or a dataset of the Hub's library (`hf:ID[:CONFIG]`, or a folder made by it).

    Without `weight` every clip is used once an epoch; with it, that share of the training clips
    comes from here. `copies` versions of every clip are kept where frames are cached: one as
    recorded, the others augmented. `prompt` replaces the model's own instruction: several tasks in
    one run.
    """

    path: str
    weight: float = 0.0
    prompt: str = ""
    split: str = "train"
    audio: str = AUDIO  # these three are found by their other usual names too (`fields.NAMES`)
    text: str = TEXT
    speaker: str = SPEAKER
    streaming: bool = False
    limit: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise ConfigError("A source needs a path: a manifest, a folder, a tar or hf:ID.")
        if self.weight < 0 or self.limit < 0:
            given = f"weight={self.weight:g} and limit={self.limit}"
            raise ConfigError(f"The source {self.path!r} has {given}; neither can be negative.")
        if self.copies < 1:
            raise ConfigError(f"The source {self.path!r} has copies={self.copies}; 1 is the least.")


class Sound(Protocol):
    """A clip's audio, which is read when its samples are asked for."""

    def samples(self) -> np.ndarray:
        """Return mono float32 samples at 16 kHz; raise `AudioError` when they cannot be had."""

    def digest(self) -> str:
        """Return a hexadecimal digest of what is stored, the same on every machine."""


@dataclass(frozen=True)
class Example:
    """One clip with its target. `where` names it in messages, for example train.jsonl:17.

    A question about several clips has the others in `more`, in the order of its placeholders.
    """

    where: str
    text: str
    duration_s: float
    sound: Sound
    speaker: str = ""
    source: str = ""
    prompt: str = ""
    columns: dict[str, Any] = field(default_factory=dict, compare=False)  # all else: gender, age, …
    more: tuple[Sound, ...] = ()

    def parts(self) -> list[Example]:
        """Return one example for every clip; their texts and questions are this one's."""
        if not self.more:
            return [self]
        sounds = (self.sound, *self.more)
        each_s = self.duration_s / len(sounds)  # what is measured is the sum
        return [replace(self, sound=sound, duration_s=each_s, more=()) for sound in sounds]


@dataclass
class Dropped:
    """The places of rows that were left out, by reason; each place counts once."""

    places: dict[str, list[str]] = field(default_factory=dict)
    _met: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def add(self, reason: str, where: str) -> None:
        if (reason, where) not in self._met:
            self._met.add((reason, where))
            self.places.setdefault(reason, []).append(where)

    def merge(self, places: dict[str, list[str]]) -> None:
        """Add the rows that another process left out."""
        for reason, met in places.items():
            for where in met:
                self.add(reason, where)

    def counts(self) -> Counter[str]:
        return Counter({reason: len(places) for reason, places in self.places.items()})

    def __str__(self) -> str:
        """List the reasons, the commonest first, each with one of its places."""
        reasons = [
            f"{n:,} × {why} ({self.places[why][0]})" for why, n in self.counts().most_common()
        ]
        return ", ".join(reasons) or "nothing was left out"


@dataclass(frozen=True)
class Limits:
    """The limits of clips that may pass, and how their texts are written."""

    min_s: float = 0.1
    max_s: float = 30.0
    style: Style = "raw"
    empty: bool = False  # clips in which nothing is said, text "": to evaluate, not to train


# Fields that an example holds in another form.
READ = {AUDIO, TEXT, *NAMES[AUDIO], *NAMES[TEXT], *TIMES, "prompt", "samples"}
# The fastest speakers on record say 11 English words, 58 characters, a second.
CHARACTERS_PER_S, FREE_CHARACTERS = 60, 20
NUM_READERS, NUM_AT_ONCE = 8, 64  # threads, for disks that answer slowly; rows they share out
MOST_PLACES = 50


def read_source(name: str, config: SourceConfig, limits: Limits, dropped: Dropped) -> list[Example]:
    """Read all usable clips of a source, in its order.

    The same audio with the same text and prompt is kept once. Headers tell the durations, so 2,500
    clips take about a second; damage inside a file shows only when it is decoded: `samples()` then
    raises an `AudioError` with its reason.
    """
    check_streaming(name, config)
    if config.streaming:
        raise ConfigError(f"The source {name!r} is a stream: read it with ExampleStream.")
    examples, seen, rows = list[Example](), _Seen(), _rows(name, config)
    judge = partial(judged, name=name, config=config, limits=limits)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        while batch := list(islice(rows, NUM_AT_ONCE)):
            for row, verdict in zip(batch, pool.map(judge, batch), strict=True):
                if isinstance(verdict, Unusable):
                    dropped.add(str(verdict), row.where)
                elif seen.before(*verdict):
                    dropped.add("duplicate", row.where)
                else:
                    examples.append(verdict[0])
                    if len(examples) == config.limit:
                        return examples
    return examples


def check_streaming(name: str, config: SourceConfig) -> None:
    """Refuse to stream what is not a dataset."""
    if config.streaming and not is_dataset(config.path):
        raise ConfigError(
            f"The source {name!r} has streaming=true, but {config.path!r} is no dataset of the "
            "Hub's library. What lies on this disk is read clip by clip anyway: set "
            "streaming=false, or give hf:ID or a folder of parquet files."
        )


def columns_of(config: SourceConfig) -> list[str]:
    """Return the columns of a dataset that are read: audio, text, and these if they are there."""
    speakers = NAMES[SPEAKER] if config.speaker == SPEAKER else ()
    return [config.audio, config.text, config.speaker, *speakers, "prompt"]


def _rows(name: str, config: SourceConfig) -> Iterator[Row]:
    if is_dataset(config.path):
        return dataset_rows(config.path, config.split, columns_of(config))
    if config.split != SourceConfig(path=config.path).split:
        raise ConfigError(
            f"The source {name!r} has split={config.split!r}, but {config.path!r} has no splits. "
            "Leave split out, and give the path of that part."
        )
    return local_rows(config.path, config.audio, config.text)


def judged(
    row: Row, *, name: str, config: SourceConfig, limits: Limits
) -> tuple[Example, int] | Unusable:
    """Return the example of a row and its size in bytes, or the reason why there is none."""
    try:
        if isinstance(row.sound, Unusable):
            raise row.sound
        refuse_fields(row.fields)
        text = clean(string_in(row.fields, column_in(row.fields, TEXT, config.text)), limits.style)
        if not text and not limits.empty:
            raise Unusable("empty text")
        speaker, prompt = _speaker(row.fields, config.speaker), _prompt(row.fields, config.prompt)
        measured = [sound.measure(limits.max_s) for sound in (row.sound, *row.more)]
        seconds, num_bytes = (sum(values) for values in zip(*measured, strict=True))
        for clip_s, _ in measured:
            _check_length(clip_s, limits)
        check_length(seconds, times_of(row.fields).length)
        if not prompt:
            check_speakable(text, seconds)
        read = READ | {config.audio, config.text}
        columns = {key: value for key, value in row.fields.items() if key not in read}
        example = Example(
            row.where, text, seconds, row.sound, speaker, name, prompt, columns, row.more
        )
        return example, int(num_bytes)
    except Unusable as reason:
        return reason
    except AudioError as error:
        return Unusable(error.reason)


def check_speakable(text: str, seconds: float) -> None:
    """Refuse a text that nobody can say in that time: it belongs to another clip, or to several."""
    if len(text) > FREE_CHARACTERS + CHARACTERS_PER_S * seconds:
        raise Unusable("more text than can be spoken in the clip")


def _speaker(fields: dict[str, Any], asked: str) -> str:
    """Return the speaker as a name or a number; "" when there is none."""
    column = column_in(fields, SPEAKER, asked)
    value = fields.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return "" if value is None else string_in(fields, column).strip()


def _prompt(fields: dict[str, Any], otherwise: str) -> str:
    return otherwise if fields.get("prompt") is None else string_in(fields, "prompt")


def _check_length(seconds: float, limits: Limits) -> None:
    if seconds < limits.min_s:
        raise Unusable(f"shorter than {limits.min_s:g} s")
    if seconds > limits.max_s:
        raise Unusable(f"longer than {limits.max_s:g} s")


class _Seen:
    """The clips so far, to find duplicates. Bytes are hashed if text, length and size agree."""

    def __init__(self) -> None:
        self.firsts: dict[tuple[Any, ...], Example] = {}
        self.digests: dict[tuple[Any, ...], set[str]] = {}

    def before(self, example: Example, num_bytes: int) -> bool:
        key = (example.text, example.prompt, example.duration_s, num_bytes)
        if key not in self.firsts:
            self.firsts[key] = example
            return False
        known = self.digests.setdefault(key, set()) or {_digest(self.firsts[key])}
        digest = _digest(example)
        self.digests[key] = known | {digest}
        return digest in known


def _digest(example: Example) -> str:
    return " ".join(part.sound.digest() for part in example.parts())


def refuse(dropped: Dropped) -> None:
    """Raise a `ConfigError` that names the places, by reason, when anything was left out."""
    lines = [f"  {where}: {reason}" for reason, all_ in dropped.places.items() for where in all_]
    if not lines:
        return
    shown = lines[:MOST_PLACES]
    if len(lines) > MOST_PLACES:
        shown.append(f"  and {len(lines) - MOST_PLACES} more")
    raise ConfigError(
        "\n".join([f"{len(lines)} rows cannot be used, and strict=true allows none:", *shown])
        + "\nMend or remove these rows, or set strict=false to leave them out."
    )
