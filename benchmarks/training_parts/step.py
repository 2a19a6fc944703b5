"""A step, from a list of clips to changed weights: a plain one, ours, and ours from the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.mixture import DataConfig, Visit
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import IGNORED
from tiny_audio.presets import load
from tiny_audio.train import stages
from tiny_audio.train.batch import Batch, Collator
from tiny_audio.train.data import Gathered, fill
from tiny_audio.train.experiments import EMBEDDED
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.loop import Loop, LoopConfig
from tiny_audio.train.recipe import Recipe, Stage
from tiny_audio.train.task import Listening
from training_parts.plain import WINDOW_S, PlainCollator, PlainStep, with_long_window
from training_parts.watch import WARM_UP, Row, Watch, spread

STAGE = Stage(steps=1_000_000, cache=True)  # the projector alone, with every stage's defaults
Collate = Callable[[Sequence[Visit]], Any]  # a batch; None (no clip is usable) does not occur here
Work = Callable[[Batch], float]


def step(variant: str, clips: int, clip_s: float, repetitions: int, device: str) -> Row:
    """Time and memory of "reference", "unpadded" (it at true length), "live" or "cached"."""
    model, visits = nano(device), clips_near(clip_s, clips)
    with tempfile.TemporaryDirectory() as name:
        collate, work = parts_of(variant, model, visits, Path(name))
        return timed(lambda: collate(visits), work, repetitions, Watch(device))


def parts_of(
    variant: str, model: AudioLM, visits: Sequence[Visit], folder: Path
) -> tuple[Collate, Work]:
    """What makes a batch of clips, and what trains on it."""
    if variant == "reference":
        model = with_long_window(model, STAGE)
        return PlainCollator(collator(model), WINDOW_S), PlainStep(model, STAGE)
    if variant == "unpadded":
        return PlainCollator(collator(model), 0), PlainStep(model, STAGE)
    cache = filled(model, visits, folder / "frames") if variant == "cached" else None
    return collator(model, cache), our_step(model, folder)


def nano(device: str) -> AudioLM:
    """nano with a projector that trains; frozen parts as a run on this device holds them."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = load("nano", dtype=dtype, device=device, check=False)
    stages.begin(model, STAGE)
    return model


def clips_near(seconds: float, number: int) -> list[Visit]:
    """The clips of the embedded corpus whose length is nearest to this."""
    source = SourceConfig(path=str(EMBEDDED / "train"))
    found = read_source("clips", source, Limits(), Dropped())
    nearest = sorted(found, key=lambda e: (abs(e.duration_s - seconds), e.where))[:number]
    return [Visit(example, 0, 0) for example in nearest]


def collator(model: AudioLM, cache: FrameCache | None = None) -> Collator:
    """As a run on this device has it."""
    return Collator(model, cache=cache, few_shapes=model.device.type == "cpu")


def our_step(model: AudioLM, folder: Path) -> Work:
    """`Loop.update`."""
    rates, device = stages.rates(STAGE), model.device.type
    config = LoopConfig(rates=rates, steps=STAGE.steps, device=device)
    loop = Loop(Listening(model).train(), config, folder)
    return lambda batch: loop.update([batch])["loss"]


def filled(model: AudioLM, visits: Sequence[Visit], folder: Path) -> FrameCache:
    """A cache of these clips' frames."""
    cache = FrameCache(folder, model.audio_tower)
    found = Gathered({"clips": [visit.example for visit in visits]}, [], {})
    fill(cache, found, recipe(len(visits)), model)
    return cache


def recipe(clips: int, batch_s: float = 60.0) -> Recipe:
    """A run on the first clips of the embedded corpus."""
    source = SourceConfig(path=str(EMBEDDED / "train"), limit=clips)
    data = DataConfig(sources={"clips": source}, batch_s=batch_s)
    return Recipe(name="benchmark", data=data, stages={"projector": STAGE})


def timed(collate: Callable[[], Batch], work: Work, repetitions: int, watch: Watch) -> Row:
    """The same clips again and again; the weights change."""
    held, losses, collated_s, worked_s = watch.forget(), [], [], []
    for _ in range(WARM_UP + repetitions):
        seconds, batch = watch.seconds(collate)
        collated_s.append(seconds)
        seconds, loss = watch.seconds(partial(work, batch))
        worked_s.append(seconds)
        losses.append(loss)
    whole_s = [sum(pair) for pair in zip(collated_s, worked_s, strict=True)]
    return {
        "step_ms": spread(whole_s[WARM_UP:]),
        "collate_ms": spread(collated_s[WARM_UP:]),
        "update_ms": spread(worked_s[WARM_UP:]),
        "peak_bytes": watch.peak() - held,
        "held_bytes": held,
        "first_loss": losses[0],
        "positions": list(batch.ids_BL.shape),
        "supervised": int((batch.labels_BL[:, 1:] != IGNORED).sum()),
    }
