"""What more data cost: reading, planning and steps from one full cache."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tiny_audio.data.mixture import Plan, StreamPlan, Visit, worst
from tiny_audio.train.data import Gathered, fill, gather, plan_of
from tiny_audio.train.frames import FrameCache
from training_parts.step import STAGE, Collate, collator, nano, our_step, recipe
from training_parts.watch import WARM_UP, Row, Watch, resident, spread


def listen(folder: str, clips: int, device: str) -> Row:
    """Fill a cache with the frames of so many clips."""
    model, asked = nano(device), recipe(clips)
    found, cache = gather(asked, model), FrameCache(Path(folder), model.audio_tower)
    seconds, _ = Watch(device).seconds(lambda: fill(cache, found, asked, model))
    return {"seconds": seconds, "clips": len(cache), "audio_s": audio_s(found)}


def audio_s(found: Gathered) -> float:
    return sum(e.duration_s for examples in found.train.values() for e in examples)


def growth(folder: str, clips: int, steps: int, batch_s: float, device: str) -> Row:
    """Read, plan and train on so many clips of a full cache, as a run does."""
    model, asked, watch = nano(device), recipe(clips, batch_s), Watch(device)
    with tempfile.TemporaryDirectory() as name:
        work, held, mapped = our_step(model, Path(name)), watch.forget(), resident("RssFile")
        reading_s, found = watch.seconds(lambda: gather(asked, model))
        cache = FrameCache(Path(folder), model.audio_tower)
        known = len(cache)
        finding_s, _ = watch.seconds(lambda: fill(cache, found, asked, model))
        if len(cache) != known:
            raise ValueError(f"{len(cache) - known} clips were not in the cache that was filled.")
        planning_s, plan = watch.seconds(
            lambda: with_first_block(plan_of(found, asked, STAGE, model))
        )
        collate: Collate = collator(model, cache)
        work(collate(worst(plan)))  # as a run begins: the peak is that of the same batch for all
        taken = timed(plan, lambda visits: work(collate(visits)), steps, watch)
    return {
        "clips": len(found.train["clips"]),
        "audio_s": audio_s(found),
        "reading_s": reading_s,
        "finding_s": finding_s,
        "planning_s": planning_s,
        **taken,
        "peak_bytes": watch.peak() - held,
        "mapped_bytes": resident("RssFile") - mapped,
    }


def with_first_block(plan: Plan | StreamPlan) -> Plan | StreamPlan:
    """A plan whose first block of clips is sorted and cut."""
    plan.steps_of(0)
    return plan


def timed(
    plan: Plan | StreamPlan, work: Callable[[Sequence[Visit]], float], steps: int, watch: Watch
) -> Row:
    """The first steps of a plan, each with clips of its own."""
    taken_s, per_audio_s, loss = [], [], 0.0
    for micro_batches, _ in itertools.islice(plan.steps({}), WARM_UP + steps):
        visits = micro_batches[0]  # the only one
        seconds, loss = watch.seconds(partial(work, visits))
        taken_s.append(seconds)
        per_audio_s.append(seconds / sum(v.example.duration_s for v in visits))
    return {
        "step_ms": spread(taken_s[WARM_UP:]),
        "ms_per_audio_s": spread(per_audio_s[WARM_UP:]),
        "last_loss": loss,
    }
