"""Making batches of clips: a process of its own draws, joins and augments them, and makes features.

Few shapes: every batch is padded to one of `BUCKETS` seconds, since oneDNN compiles a kernel for
each new shape. What is drawn follows from the seed alone, as long as the corpus stays as it is.
"""

import json
import multiprocessing as mp
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recipes.nano.sources import shared_data
from recipes.tiny.paths import CORPUS
from recipes.tiny.texts import is_held_out
from tiny_audio.data import augment
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.features import Features, log_mel
from tiny_audio.train.stopping import end_with

BUCKETS = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30)
WEIGHTS = {
    "hibari": 0.22,
    "joe": 0.08,
    "kokoro": 0.10,
    "voices": 0.04,
    "adventure": 0.36,
    "speechocean762": 0.18,
    "fsdd": 0.02,
}
REAL = ("speechocean762", "fsdd")
TAKE_UP_S = 120.0  # how often new shards are looked for


@dataclass(frozen=True)
class Mix:
    """Seconds of sound per batch, the longest clip, and shares of joined and of empty clips."""

    batch_s: float = 64.0
    longest_s: float = 20.0
    joined: float = 0.12
    empty: float = 0.02


class Clip(NamedTuple):
    samples: np.ndarray
    text: str


class Batch(NamedTuple):
    """Features (B, 80, M) in bfloat16, their true steps, the texts, and the seconds of sound."""

    values: Tensor
    steps: list[int]
    texts: list[str]
    seconds: float

    def features(self) -> Features:
        return Features(self.values.float(), torch.tensor(self.steps))


class Store:
    """All clips of finished shards; samples stay on disk until they are asked for."""

    def __init__(self, folder: Path):
        self.folder, self.seen, self.rows = folder, set[Path](), list[tuple[Any, int, dict]]()
        self.refresh()

    def refresh(self) -> None:
        """Take up shards that were finished since."""
        for path in sorted(set(self.folder.glob("*.jsonl")) - self.seen):
            self.seen.add(path)
            samples, at = np.load(path.with_suffix(".npy"), mmap_mode="r"), 0
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self.rows.append((samples, at, row))
                at += row["n"]

    def training(self) -> dict[str, list[int]]:
        """Numbers of the clips that may be trained on, by engine."""
        found: dict[str, list[int]] = {}
        for number, (_, _, row) in enumerate(self.rows):
            if row["engine"] in REAL or not is_held_out(row["text"]):
                found.setdefault(row["engine"], []).append(number)
        return found

    def clip(self, number: int) -> Clip:
        samples, at, row = self.rows[number]
        return Clip(samples[at : at + row["n"]].astype(np.float32) / 32768, row["text"])


class Source:
    """Draws clips and changes them for training."""

    def __init__(self, mix: Mix, seed: int):
        self.mix, self.rng = mix, np.random.default_rng(seed)
        self.store = Store(CORPUS / "shards")
        self.by_engine, self.looked = self.store.training(), time.monotonic()
        self.sounds = environmental(shared_data() / "esc10")

    def draw(self) -> Clip:
        """Draw one clip of the corpus, the engine by its weight."""
        if time.monotonic() - self.looked > TAKE_UP_S:
            self.store.refresh()
            self.by_engine, self.looked = self.store.training(), time.monotonic()
        engines = [engine for engine in WEIGHTS if engine in self.by_engine]
        weights = np.array([WEIGHTS[engine] for engine in engines])
        clips = self.by_engine[self.rng.choice(engines, p=weights / weights.sum())]
        return self.store.clip(clips[self.rng.integers(len(clips))])

    def next(self) -> Clip:
        """Return one augmented clip; by their shares, some are joined clips and some are empty."""
        if self.rng.random() < self.mix.empty:
            return self.silence()
        clip = self.draw()
        if self.rng.random() < self.mix.joined:
            clip = self.joined(clip)
        return Clip(self.augmented(clip.samples), clip.text)

    def joined(self, clip: Clip) -> Clip:
        """Add up to five clips, with pauses of 0.1 to 1 s, as far as the longest clip allows."""
        for _ in range(self.rng.integers(1, 6)):
            other = self.draw()
            room_s = self.mix.longest_s - 2 - len(clip.samples) / SAMPLE_RATE
            if len(other.samples) / SAMPLE_RATE > room_s:
                break
            pause = np.zeros(int(self.rng.uniform(0.1, 1.0) * SAMPLE_RATE), np.float32)
            samples = np.concatenate([clip.samples, pause, other.samples])
            clip = Clip(samples, f"{clip.text} {other.text}")
        return clip

    def silence(self) -> Clip:
        """1 to 6 s of an environmental sound, noise or nothing, with the empty text."""
        rng, size = self.rng, int(self.rng.uniform(1, 6) * SAMPLE_RATE)
        kind = rng.random()
        if kind < 0.6:
            sound = self.sounds[rng.integers(len(self.sounds))]
            start = int(rng.integers(max(1, len(sound) - size)))
            samples = np.resize(sound[start:], size)
        elif kind < 0.88:
            samples = augment.coloured_noise(size, rng) * np.float32(10 ** rng.uniform(-5, -1))
        else:
            samples = np.zeros(size, np.float32)
        return Clip((samples * 10 ** rng.uniform(-1.5, 0)).astype(np.float32), "")

    def augmented(self, x: np.ndarray) -> np.ndarray:
        """Change speaker, room, noise and microphone; mild changes are drawn more often."""
        rng = self.rng
        if rng.random() < 0.4:
            x = augment.change_speed(x, rng.uniform(0.86, 1.18))
        before = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
        x = augment.pad_with_silence(x, before, rng.uniform(0, 0.4) if rng.random() < 0.6 else 0.0)
        if rng.random() < 0.22:
            x = augment.add_room(x, rng)
        if rng.random() < 0.3:
            x = augment.add_noise(x, rng, rng.uniform(8, 40))
        if rng.random() < 0.12:
            x = self.with_sound(x)
        if rng.random() < 0.12:
            x = augment.limit_band(x, rng)
        if rng.random() < 0.04:
            x = augment.telephone_codec(x)
        return augment.set_level(x, rng.uniform(-34, -14)).astype(np.float32)

    def with_sound(self, x: np.ndarray) -> np.ndarray:
        """An environmental sound behind the speech, 5 to 25 dB below it."""
        sound = np.resize(self.sounds[self.rng.integers(len(self.sounds))], len(x))
        ratio = np.sqrt((x**2).mean() + 1e-9) / np.sqrt((sound**2).mean() + 1e-6)
        return x + sound * np.float32(min(ratio * 10 ** (-self.rng.uniform(5, 25) / 20), 30))

    def masked(self, mel_FM: Tensor) -> Tensor:
        """SpecAugment (arXiv 1904.08779): two bands and short stretches of the clip's mean."""
        rng = self.rng
        if rng.random() < 0.8:
            for _ in range(2):
                size = int(rng.integers(0, 16))
                low = int(rng.integers(0, 80 - size))
                mel_FM[low : low + size] = mel_FM.mean()
            for _ in range(max(1, mel_FM.shape[1] // 200)):
                size = int(rng.integers(0, 14))
                start = int(rng.integers(0, max(1, mel_FM.shape[1] - size)))
                mel_FM[:, start : start + size] = mel_FM.mean()
        return mel_FM

    def batches(self) -> Iterator[Batch]:
        """Yield batches; clips are gathered by length until a bucket is full."""
        waiting: dict[int, list[tuple[Tensor, str]]] = {bucket: [] for bucket in BUCKETS}
        while True:
            clip = self.next()
            seconds = len(clip.samples) / SAMPLE_RATE
            if not 0.3 < seconds <= self.mix.longest_s:
                continue  # noise of augmentation: slower than before, or a single short word
            bucket = next(b for b in BUCKETS if seconds <= b)
            mel = self.masked(log_mel(torch.from_numpy(clip.samples), 80))
            waiting[bucket].append((mel, clip.text))
            if len(waiting[bucket]) >= max(2, int(self.mix.batch_s / bucket)):
                rows, waiting[bucket] = waiting[bucket], []
                yield padded(rows, bucket)


def environmental(folder: Path) -> list[np.ndarray]:
    """Return the sounds of ESC-10. They hold no speech, so they have no text."""
    rows = map(json.loads, (folder / "train.jsonl").read_text().splitlines())
    return [load_audio(folder / row["audio"]).samples.numpy() for row in rows]


def padded(rows: list[tuple[Tensor, str]], bucket: int) -> Batch:
    values = torch.zeros(len(rows), 80, bucket * 100, dtype=torch.bfloat16)
    for row, (mel, _) in zip(values, rows, strict=True):
        row[:, : mel.shape[1]] = mel
    steps = [mel.shape[1] for mel, _ in rows]
    return Batch(values, steps, [text for _, text in rows], sum(steps) / 100)


def _fill(queue: Any, mix: Mix, seed: int, beginner: int) -> None:
    end_with(beginner)
    torch.set_num_threads(1)
    for values, *rest in Source(mix, seed).batches():
        queue.put((values.view(torch.int16).numpy(), *rest))  # arrays need no shared memory


def batches(mix: Mix, seed: int, core: int | None = None) -> Iterator[Batch]:
    """Batches made in another process; it ends with this one. `core` pins it to a processor."""
    context = mp.get_context("spawn")
    queue = context.Queue(16)
    process = context.Process(target=_fill, args=(queue, mix, seed, os.getpid()), daemon=True)
    process.start()
    if core is not None and process.pid is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    try:
        while True:
            values, *rest = queue.get()
            yield Batch(torch.from_numpy(values).view(torch.bfloat16), *rest)
    finally:
        process.terminate()
