"""Reading datasets as a stream: nothing is stored on this disk, and reading continues where it
stopped.

The state is a value: `take` takes one and returns the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiny_audio.data.examples import (
    Dropped,
    Example,
    Limits,
    SourceConfig,
    check_streaming,
    columns_of,
    judged,
)
from tiny_audio.data.fields import AUDIO, column_in
from tiny_audio.data.hf import labels_of, named, names_in, open_dataset, streamed
from tiny_audio.data.manifest import Unusable
from tiny_audio.data.rows import Row
from tiny_audio.data.sounds import BytesSound, FileSound, Stored, audio_in
from tiny_audio.model.errors import ConfigError

State = dict[str, Any]  # plain JSON values


class ExampleStream:
    """The usable clips of a dataset, in its order, with their bytes in memory.

    What was seen is not remembered, so duplicates are not looked for. Read it in the main process:
    in a worker of a DataLoader the library would give it a part of the data only.
    """

    def __init__(self, name: str, config: SourceConfig, limits: Limits, dropped: Dropped) -> None:
        check_streaming(name, config)
        self.name, self.config, self.limits, self.dropped = name, config, limits, dropped
        columns = columns_of(config)
        self.dataset = open_dataset(config.path, config.split, columns, streaming=True)
        self.audio, self.text = names_in(self.dataset, columns)
        self.labels = labels_of(self.dataset, self.text)
        self._state: State | None = None  # the state returned last: `_rows` continues there
        self._rows: Iterator[dict[str, Any]] = iter(())
        self._num_rows = self._num_kept = 0
        self.most_kept = 0  # usable clips up to the farthest place that was read

    def take(self, count: int, state: State | None = None) -> tuple[list[Example], State | None]:
        """Return the next `count` clips after `state` (None: the start), and the state after them.

        At the end of the data, or at the source's limit, there are fewer clips, perhaps none, and
        no state. A state that was not the last one returned opens its shard again.
        """
        if state is None or state != self._state:
            self._go_to(state or {"of": self._source()})
        examples = list[Example]()
        while len(examples) < count:
            if (example := self._next()) is None:
                self._state = None
                return examples, None
            examples.append(example)
        self._state = {
            "of": self._source(),
            "rows": self._num_rows,
            "kept": self._num_kept,
            "dataset": self.dataset.state_dict(),
        }
        return examples, self._state

    def _source(self) -> str:
        return f"{self.config.path}:{self.config.split}"

    def _go_to(self, state: State) -> None:
        if state["of"] != self._source():
            raise ConfigError(
                f"The state is of {state['of']!r}, but the source {self.name!r} is "
                f"{self._source()!r}. Start anew, or give the run its own source again."
            )
        self.dataset.load_state_dict(state.get("dataset", {}))
        self._rows = streamed(self.config.path, self.dataset)
        self._num_rows, self._num_kept = state.get("rows", 0), state.get("kept", 0)

    def _next(self) -> Example | None:
        """Return the next usable clip; rows that are not usable are counted on the way."""
        if self._num_kept == self.config.limit > 0:
            return None
        for fields in self._rows:
            row = self._row(fields)
            self._num_rows += 1
            verdict = judged(row, name=self.name, config=self.config, limits=self.limits)
            if not isinstance(verdict, Unusable):
                self._num_kept += 1
                self.most_kept = max(self.most_kept, self._num_kept)
                return verdict[0]
            self.dropped.add(str(verdict), row.where)
        return None

    def _row(self, fields: dict[str, Any]) -> Row:
        where = f"{self._source()}[{self._num_rows}]"
        try:
            audio = column_in(fields, AUDIO, self.audio)
            sound: Stored | Unusable = _sound(where, fields.get(audio))
        except Unusable as reason:
            sound = reason
        return Row(where, sound, named(fields, self.text, self.labels))


def _sound(where: str, value: Any) -> Stored:
    """Return the bytes of a row; those that lie elsewhere (hf://, zip://) are fetched now."""
    found = audio_in(value)
    if isinstance(found, str) and "://" in found:
        import fsspec  # type: ignore[import-untyped]

        with fsspec.open(found, "rb") as file:
            found = file.read()
    return BytesSound(where, found) if isinstance(found, bytes) else FileSound(found)
