"""Choosing the clips of a step: sources are weighted, sorted by length in blocks, cut by budget.

Everything follows from the seed: a block draws its share of every source from an endless order of
permutations, so the state of the data is two small numbers, whatever the number of processes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import Dropped, Example, SourceConfig
from tiny_audio.data.text import Style
from tiny_audio.model.config import StrictConfig
from tiny_audio.model.errors import ConfigError

State = dict[str, Any]  # of the data, after a step; plain JSON values


@dataclass(frozen=True, kw_only=True)
class DataConfig(StrictConfig):
    """Settings that say which clips are used, and how they are brought into batches.

    `validation_speakers` are set apart by name from all training sources, unless `validation` names
    clips of its own. A micro-batch holds at most `batch_s` seconds of padded audio, `batch_tokens`
    positions of the decoder and `batch_items` clips; a step takes `micro_batches` of them, however
    many processes share them.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    validation: dict[str, SourceConfig] = field(default_factory=dict)
    validation_speakers: int = 0
    validation_clips: int = 200
    validation_beams: int = 1  # texts that an evaluation searches among; 1 is greedy
    text_style: Style = "raw"
    min_s: float = 0.1
    max_s: float = 30.0
    strict: bool = False
    nonspeech: float = 0.0  # share of noise and silence with an empty target
    augment: Augment | None = None
    batch_s: float = 60.0
    batch_tokens: int = 8192
    batch_items: int = 64
    micro_batches: int = 1
    block: int = 2048  # clips that are sorted by duration together

    def __post_init__(self) -> None:
        super().__post_init__()
        budgets = ("batch_s", "batch_tokens", "batch_items", "micro_batches", "block")
        for name in (*budgets, "validation_beams"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"data.{name}={getattr(self, name)} must be greater than 0.")
        if not 0 <= self.nonspeech < 1:
            raise ConfigError(f"data.nonspeech={self.nonspeech:g} is a share: 0, or less than 1.")


class Visit(NamedTuple):
    """One use of a clip: `seed` decides its augmentation, `repeat` counts its earlier visits."""

    example: Example
    repeat: int
    seed: int


Cost = Callable[[Example], int]  # positions of the decoder that a clip takes, prompt and answer too
Step = list[list[Visit]]  # micro-batches


def shares(sizes: dict[str, int], weights: dict[str, float]) -> dict[str, float]:
    """Return the share of every source: its weight, or its part of the share that has no weight."""
    given = sum(weights.values())
    free = {name: size for name, size in sizes.items() if not weights.get(name)}
    if given > 1 + 1e-9 or (given > 1 - 1e-9) != (not free):
        raise ConfigError(
            f"The weights of the sources add up to {given:g}. They are shares of 1, and sources "
            f"without a weight share the rest ({', '.join(free) or 'there is none'})."
        )
    total = sum(free.values())
    return {n: weights.get(n) or (1 - given) * sizes[n] / total for n in sizes}


class Mixture:
    """The visits of every block, by its number. An epoch is over when every clip without a weight
    was used once.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Example]],
        weights: dict[str, float],
        seed: int,
        block: int,
    ):
        if empty := sorted(name for name, examples in sources.items() if not examples):
            raise ConfigError(f"The source {empty[0]!r} has no usable clip.")
        self.sources, self.seed, self.block = sources, seed, block
        self.shares = shares({n: len(e) for n, e in sources.items()}, weights)
        counted = [n for n in sources if not weights.get(n)] or list(sources)
        self.epoch_clips = max(round(len(sources[n]) / self.shares[n]) for n in counted)

    def visits(self, number: int) -> list[Visit]:
        rng = random.Random(f"block/{self.seed}/{number}")
        drawn = []
        for name, share in self.shares.items():
            first, last = (int(share * self.block * n + 1e-6) for n in (number, number + 1))
            drawn += [self._visit(name, index) for index in range(first, last)]
        return [visit._replace(seed=rng.getrandbits(31)) for visit in drawn]

    def _visit(self, name: str, index: int) -> Visit:
        turn, place = divmod(index, len(self.sources[name]))
        order = self._order(name, turn)
        return Visit(self.sources[name][order[place]], turn, 0)

    def _order(self, name: str, turn: int) -> np.ndarray:
        """Return the permutation of one pass through a source; the last one is kept."""
        kept = self.__dict__.setdefault("_orders", {})
        if kept.get(name, (-1,))[0] != turn:
            digest = random.Random(f"order/{self.seed}/{name}/{turn}").getrandbits(32)
            order = np.random.default_rng(digest).permutation(len(self.sources[name]))
            kept[name] = (turn, order)
        return kept[name][1]


def planned_s(example: Example, how: Augment | None) -> float:
    """Return the greatest length, in seconds, that augmentation can give a clip."""
    if how is None:
        return example.duration_s
    slowest = min(how.speed_range[0], 1.0) if how.speed else 1.0
    return example.duration_s / slowest + (2 * how.silence_s if how.silence else 0.0)


def cut(visits: Sequence[Visit], config: DataConfig, cost: Cost) -> list[list[Visit]]:
    """Cut consecutive visits into batches, as large as the budgets allow with padding."""
    batches: list[list[Visit]] = [[]]
    longest_s, most = 0.0, 0
    for visit in visits:
        seconds, tokens = planned_s(visit.example, config.augment), cost(visit.example)
        rows = len(batches[-1]) + 1
        wider_s, wider = max(longest_s, seconds), max(most, tokens)
        full = wider_s * rows > config.batch_s or wider * rows > config.batch_tokens
        if batches[-1] and (full or rows > config.batch_items):
            batches.append([])
            wider_s, wider = seconds, tokens
        batches[-1].append(visit)
        longest_s, most = wider_s, wider
    return batches if visits else []


def dealt(visits: Sequence[Visit], config: DataConfig, cost: Cost, seed: str) -> list[Step]:
    """Return a block's steps: visits are sorted by cost, cut by budget, shuffled and dealt out."""
    ordered = sorted(visits, key=lambda v: (cost(v.example), v.example.duration_s))
    batches = cut(ordered, config, cost)
    random.Random(seed).shuffle(batches)
    size = config.micro_batches
    return [batches[i : i + size] for i in range(0, len(batches), size)]


class Plan:
    """The steps of a stage, each with the state of the data after it."""

    def __init__(self, mixture: Mixture, config: DataConfig, cost: Cost):
        self.mixture, self.config, self.cost = mixture, config, cost
        self._kept: tuple[int, list[Step]] = (-1, [])

    def steps_of(self, number: int) -> list[Step]:
        """Return the steps of a block; the last block is kept."""
        if self._kept[0] != number:
            seed = f"deal/{self.mixture.seed}/{number}"
            visits = self.mixture.visits(number)
            self._kept = (number, dealt(visits, self.config, self.cost, seed))
        return self._kept[1]

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """Yield steps without end, from `state` on, which is `{}` at the very start."""
        number, index = state.get("block", 0), state.get("index", 0)
        while True:
            steps = self.steps_of(number)
            for place in range(index, len(steps)):
                done = place + 1 == len(steps)
                after = (number + 1, 0) if done else (number, place + 1)
                yield steps[place], {"block": after[0], "index": after[1]}
            number, index = number + 1, 0

    def steps_per_epoch(self) -> float:
        """Return the steps in an epoch, measured on the first block."""
        return len(self.steps_of(0)) * self.mixture.epoch_clips / self.mixture.block


class Stream(Protocol):
    """Clips that are read one after another, as `data.stream.ExampleStream` reads them."""

    dropped: Dropped

    def take(self, count: int, state: State | None = None) -> tuple[list[Example], State | None]:
        """Return the next clips after `state`, and the state after them; None at the end."""


class StreamPlan:
    """The steps of a stream: its next clips are sorted by duration together, and at its end it
    begins again. The state holds where the stream stood before the block.
    """

    def __init__(self, stream: Stream, config: DataConfig, cost: Cost, seed: int):
        self.stream, self.config, self.cost, self.seed = stream, config, cost, seed

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        at: State = {"number": 0, "turn": 0, "index": 0, "stream": None} | state
        while True:
            examples, after = self.stream.take(self.config.block, at["stream"])
            if not examples and at["stream"] is None:
                raise ConfigError(f"The stream has no usable clip: {self.stream.dropped}.")
            rng = random.Random(f"block/{self.seed}/{at['number']}")
            visits = [Visit(example, at["turn"], rng.getrandbits(31)) for example in examples]
            steps = dealt(visits, self.config, self.cost, f"deal/{self.seed}/{at['number']}")
            following: State = {
                "number": at["number"] + 1,
                "turn": at["turn"] + (after is None),
                "index": 0,
                "stream": after,
            }
            for place in range(at["index"], len(steps)):
                last = place + 1 == len(steps)
                yield steps[place], following if last else {**at, "index": place + 1}
            at = following

    def steps_of(self, number: int) -> list[Step]:
        """Return the steps of the first block, the only one that can be looked at beforehand."""
        assert number == 0, "a stream is not looked into"
        examples, _ = self.stream.take(self.config.block)
        if not examples:
            raise ConfigError(f"The stream has no usable clip: {self.stream.dropped}.")
        visits = [Visit(example, 0, 0) for example in examples]
        return dealt(visits, self.config, self.cost, f"deal/{self.seed}/0")

    def steps_per_epoch(self) -> float:
        raise ConfigError("The length of a stream is not known: give steps or minutes, not epochs.")


def worst(plan: Plan | StreamPlan) -> list[Visit]:
    """Return the micro-batch of the first block that takes most positions: it has to fit."""
    batches = [batch for step in plan.steps_of(0) for batch in step]
    return max(batches, key=lambda b: len(b) * max(plan.cost(v.example) for v in b))


def padding(lengths: Sequence[int]) -> float:
    """Return the share of a padded batch that is padding."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths)) if lengths else 0.0


def split_by_speaker(
    examples: Sequence[Example], num_speakers: int, seed: int
) -> tuple[list[Example], list[Example], list[str]]:
    """Split off the clips of `num_speakers` drawn speakers; return both parts and these speakers.

    Refused when fewer than two speakers would remain to train on.
    """
    speakers = sorted({e.speaker for e in examples if e.speaker})
    if len(speakers) < num_speakers + 2:
        raise ConfigError(
            f"validation_speakers={num_speakers}, but the training clips name {len(speakers)} "
            f"speakers. Give fewer, or name clips of their own with data.validation."
        )
    apart = set(random.Random(f"validation/{seed}").sample(speakers, num_speakers))
    train = [e for e in examples if e.speaker not in apart]
    return train, [e for e in examples if e.speaker in apart], sorted(apart)
