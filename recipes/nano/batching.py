"""Choosing the clips of training step `n`, by (seed, n) alone; batches are cut by seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tiny_audio.data.augment import Augment, augment, coloured_noise, pad_with_silence
from tiny_audio.data.cache import Clip
from tiny_audio.evaluate.clips import cut_by_seconds
from tiny_audio.model.audio import SAMPLE_RATE

ELASTIC_S = 7.2  # slowed down by 1 / 0.82 and padded by 0.7 s this is still within 10 s


@dataclass(frozen=True)
class Item:
    """A row of a batch: clips one after the other, or noise if there are none."""

    clips: tuple[Clip, ...]
    gaps_s: tuple[float, ...]
    seed: int
    how: Augment | None  # None: as recorded

    @property
    def text(self) -> str:
        return " ".join(clip.text for clip in self.clips)

    @property
    def duration_s(self) -> float:
        return sum(c.duration_s for c in self.clips) + sum(self.gaps_s)

    def samples(self) -> np.ndarray:
        """float32 samples, augmented; `ELASTIC_S` keeps them within nano's window of 10 s."""
        rng = np.random.default_rng(self.seed)
        if not self.clips:
            return nothing(rng, self.gaps_s[0])
        parts = [
            pad_with_silence(clip.samples(), gap, 0.0)
            for clip, gap in zip(self.clips, self.gaps_s, strict=True)
        ]
        joined = np.concatenate(parts)
        return joined if self.how is None else augment(joined, rng, self.how)


def nothing(rng: np.random.Generator, duration_s: float) -> np.ndarray:
    """Return silence or noise, in which nothing is said."""
    noise = coloured_noise(int(duration_s * SAMPLE_RATE), rng)
    return noise * np.float32(10 ** (rng.uniform(-90, -25) / 20))


@dataclass(frozen=True)
class Mix:
    """Shares of a training block. Digits are joined, since one digit alone lasts 0.4 s."""

    digits: float = 0.15
    readers: float = 0.07
    books: float = 0.18
    nothing: float = 0.015
    joined: float = 0.1  # of the synthetic clips: two in a row, so that there are long clips too
    block: int = 4096
    how: Augment = field(default_factory=Augment)
    how_digits: Augment = field(
        default_factory=lambda: Augment(speed=0.8, speed_range=(0.84, 1.2), noise=0.4)
    )
    # flite and festival have few voices, which sound more human than espeak: vary them more
    how_natural: Augment = field(
        default_factory=lambda: Augment(speed=0.7, speed_range=(0.82, 1.22))
    )
    how_readers: Augment = field(default_factory=lambda: Augment(speed=0.7, noise=0.3))


@dataclass(frozen=True)
class Sources:
    """The clips to draw from: synthetic domain and book sentences, digits by speaker, readers."""

    domain: Sequence[Clip]
    books: Sequence[Clip]
    digits: Sequence[Sequence[Clip]]
    readers: Sequence[Clip]


def draw_item(sources: Sources, mix: Mix, rng: np.random.Generator) -> Item:
    kind, seed = rng.random(), int(rng.integers(2**31))
    if kind < mix.nothing:
        return Item((), (float(rng.uniform(0.3, 4.0)),), seed, mix.how)
    if kind < mix.nothing + mix.digits:
        speaker = sources.digits[int(rng.integers(len(sources.digits)))]
        count = int(rng.choice([1, 1, 1, 2, 3, 4, 5, 6]))
        clips = tuple(speaker[i] for i in rng.integers(len(speaker), size=count))
        return _fitting(clips, rng.uniform(0.0, 0.3, count).tolist(), seed, mix.how_digits)
    if kind < mix.nothing + mix.digits + mix.readers:
        return _fitting((_pick(sources.readers, rng),), [0.0], seed, mix.how_readers)
    from_books = kind < mix.nothing + mix.digits + mix.readers + mix.books
    clips = (_pick(sources.books if from_books else sources.domain, rng),)
    if rng.random() < mix.joined:
        clips += (_pick(sources.domain, rng),)
    how = mix.how if clips[0].speaker.startswith("espeak") else mix.how_natural
    return _fitting(clips, [0.0, float(rng.uniform(0.1, 0.6))][: len(clips)], seed, how)


def _pick(clips: Sequence[Clip], rng: np.random.Generator) -> Clip:
    return clips[int(rng.integers(len(clips)))]


def _fitting(clips: tuple[Clip, ...], gaps_s: list[float], seed: int, how: Augment) -> Item:
    """Drop clips from the end until the item fits; a long single clip is not slowed down."""
    total_s, kept = 0.0, 0
    for clip, gap in zip(clips, gaps_s, strict=True):
        if kept and total_s + clip.duration_s + gap > ELASTIC_S:
            break
        total_s, kept = total_s + clip.duration_s + gap, kept + 1
    return Item(clips[:kept], tuple(gaps_s[:kept]), seed, how if total_s < ELASTIC_S else CALM)


CALM = Augment(speed=0.0, silence=0.0)


class Batches:
    """Step → items. A block of `mix.block` items is drawn, sorted, cut by seconds, and shuffled."""

    def __init__(self, sources: Sources, mix: Mix, seed: int, batch_s: float):
        self.sources, self.mix, self.seed, self.batch_s = sources, mix, seed, batch_s
        self._starts = [0]
        self._blocks: dict[int, list[list[Item]]] = {}

    def __call__(self, step: int) -> list[Item]:
        block = 0
        while True:
            if block + 1 >= len(self._starts):
                self._starts.append(self._starts[block] + len(self._block(block)))
            if step < self._starts[block + 1]:
                return self._block(block)[step - self._starts[block]]
            block += 1

    def _block(self, block: int) -> list[list[Item]]:
        if block not in self._blocks:
            self._blocks = {block: self._draw(block)}  # only the newest block is kept
        return self._blocks[block]

    def _draw(self, block: int) -> list[list[Item]]:
        rng = np.random.default_rng([self.seed, block])
        items = [draw_item(self.sources, self.mix, rng) for _ in range(self.mix.block)]
        batches = cut_by_seconds(sorted(items, key=lambda i: i.duration_s), self.batch_s)
        rng.shuffle(batches)
        return batches
