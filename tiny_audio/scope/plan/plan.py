"""Planning a recipe before anything is downloaded: parameters, memory, time.

Counts and bytes of weights are read off a model on `meta` (`blueprint.py`); activations and time
are estimates from its shapes (`cost.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from rich.console import Group, RenderableType
from rich.table import Table

from tiny_audio.data.mixture import DataConfig
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.scope.plan.advice import Advice, advise, peak, sentence
from tiny_audio.scope.plan.blueprint import PartCount, begin, planned_config, weightless
from tiny_audio.scope.plan.cost import (
    Load,
    activations,
    autocast_copies,
    flops_per_audio_s,
    load_of,
    optimizer_bytes,
    size,
    stored,
)
from tiny_audio.train.hardware import multiplies_bf16
from tiny_audio.train.recipe import Recipe, Stage

# What the allocator cannot use in pieces, and the kernels' own work space.
USABLE = 0.9
CUDA_CONTEXT = 600 * 10**6  # bytes that CUDA and cuBLAS hold before the first tensor
MOST_CLIPS = 2**14


@dataclass(frozen=True)
class StagePlan:
    """The plan of one stage: bytes, what its micro-batch holds, and the largest one that fits."""

    name: str
    parts: Mapping[str, PartCount]
    weights: int
    copies: int  # bf16 copies of float32 matrices, made by autocast
    gradients: int
    optimizer: int
    activations: int
    load: Load
    largest: Load | None  # None: not even one clip fits
    flops_per_audio_s: float
    advice: Advice
    steps_per_epoch: int | None
    epoch_s: float | None

    @property
    def trainable(self) -> int:
        return sum(count.trainable for count in self.parts.values())

    @property
    def peak(self) -> int:
        return peak(self.weights, self.copies, self.gradients, self.optimizer, self.activations)

    @property
    def largest_batch_s(self) -> float:
        """Return the largest `data.batch_s` that fits; 0 where nothing fits."""
        return self.largest.audio_s if self.largest else 0.0


@dataclass(frozen=True)
class Plan:
    """The plan of a whole recipe. `usable` is what is left of the memory for torch's tensors."""

    name: str
    device: str
    precision: str
    memory: int
    usable: int
    clip_s: float
    flops_per_s: float
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool:
        return all(stage.peak <= self.usable for stage in self.stages)


def plan(
    recipe: Recipe,
    memory_bytes: int,
    *,
    hours: float = 0.0,
    flops_per_s: float = 0.0,
    clip_s: float = 10.0,
) -> Plan:
    """Plan every stage of `recipe` on a device with `memory_bytes`, for one process.

    With `hours` of audio also steps per epoch, and with `flops_per_s` seconds per epoch: the speed
    that a device sustains in training, a third of a GPU's listed dense bf16 at best (2 cores of a
    server CPU were measured at 4e10 to 1e11 with nano and whisper_tiny). Clips are taken to last
    `clip_s`. An empty `recipe.device` is planned as a GPU, where frozen parts lie in bf16; anywhere
    else they are float32.
    """
    device = recipe.device or "cuda"
    on_gpu = device.startswith("cuda")
    if recipe.precision == "auto":
        fast = on_gpu or multiplies_bf16(device)
        recipe = replace(recipe, precision="bf16" if fast else "fp32")
    usable = int(memory_bytes * USABLE) - (CUDA_CONTEXT if on_gpu else 0)
    config = planned_config(recipe.model)
    model = weightless(config, torch.bfloat16 if on_gpu else torch.float32)
    longest = config.encoder.max_samples if config.prompt.long_audio == "error" else None
    clip_s = min(clip_s, recipe.data.max_s, (longest or math.inf) / SAMPLE_RATE)
    stages = []
    for name, stage in recipe.stages.items():
        parts = begin(model, stage)
        planned = _stage(name, stage, model, parts, recipe, usable, clip_s)
        stages.append(_timed(planned, recipe, hours, flops_per_s))
    about = (recipe.name, device, recipe.precision, memory_bytes, usable, clip_s, flops_per_s)
    return Plan(*about, tuple(stages))


def parse_memory(text: str) -> int:
    """Return the bytes of "24GB", "16 GiB", "8000MB": GB are 10⁹ bytes, GiB 2³⁰."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ConfigError(
            f"{text!r} is no size of memory. Write a number with its unit, for example 24GB, "
            f"16GiB or 8000MB."
        )
    base = 1024 if found[3] else 1000
    return round(float(found[1]) * base ** (1 + "KMGT".index(found[2].upper())))


# One stage ----------------------------------------------------------------------------------------


def _stage(
    name: str,
    stage: Stage,
    model: AudioLM,
    parts: dict[str, PartCount],
    recipe: Recipe,
    usable: int,
    clip_s: float,
) -> StagePlan:
    bf16 = recipe.precision == "bf16"
    fixed = (
        stored(model),
        autocast_copies(model) if bf16 else 0,
        4 * sum(part.trainable for part in parts.values()),
        optimizer_bytes(model, stage),
    )

    def load(clips: int) -> Load:
        return load_of(model.config, clips, clip_s)

    wide = 2 if bf16 else 4
    again = replace(stage, checkpoint_activations=True)

    def added(clips: int, stage: Stage = stage) -> int:
        return activations(model, stage, load(clips), wide)

    clips = _clips(recipe.data, load(1))
    most = largest(lambda clips: peak(*fixed, added(clips)) <= usable)
    flops = flops_per_audio_s(model, stage, load(clips))
    fullest = load(most) if most else None
    fits_again = largest(lambda clips: peak(*fixed, added(clips, again)) <= usable)
    batches = recipe.data.micro_batches
    advice = advise(model, stage, fixed, load(1), wide, usable, fits_again, batches)
    made = (*fixed, added(clips), load(clips), fullest, flops, advice, None, None)
    return StagePlan(name, parts, *made)


def _clips(data: DataConfig, one: Load) -> int:
    """Return the clips of a micro-batch by the recipe's three budgets, at least one."""
    budgets = (data.batch_s / one.audio_s, data.batch_tokens / one.tokens, data.batch_items)
    return max(1, int(min(budgets)))


def largest(fits: Callable[[int], bool]) -> int:
    """Return the largest number of clips that fits, at most `MOST_CLIPS`; 0 if none does."""
    low, high = 0, MOST_CLIPS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _timed(planned: StagePlan, recipe: Recipe, hours: float, flops_per_s: float) -> StagePlan:
    if not hours:
        return planned
    seconds = hours * 3600
    steps = math.ceil(seconds / (planned.load.audio_s * recipe.data.micro_batches))
    epoch_s = seconds * planned.flops_per_audio_s / flops_per_s if flops_per_s else None
    return replace(planned, steps_per_epoch=steps, epoch_s=epoch_s)


# For people ---------------------------------------------------------------------------------------


def render(found: Plan) -> RenderableType:
    """Show the plan as tables: parameters, memory and time of every stage, assumptions."""
    return Group(_parameters(found), _memory(found), "\n".join(_notes(found)))


def _parameters(found: Plan) -> Table:
    table = Table(title=f"{found.name}: parameters", title_justify="left")
    table.add_column("part")
    table.add_column("total", justify="right")
    for stage in found.stages:
        table.add_column(f"trains in {stage.name}", justify="right")
    for part in ("encoder", "projector", "decoder"):
        trained = [f"{stage.parts[part].trainable:,}" for stage in found.stages]
        table.add_row(part, f"{found.stages[-1].parts[part].total:,}", *trained)
    table.add_row(
        "all",
        f"{sum(count.total for count in found.stages[-1].parts.values()):,}",
        *[f"{stage.trainable:,}" for stage in found.stages],
    )
    return table


def _memory(found: Plan) -> Table:
    table = Table(title=f"memory on {found.device}, {found.precision}", title_justify="left")
    table.add_column("")
    for stage in found.stages:
        table.add_column(stage.name, justify="right")
    rows = {
        "weights": [size(s.weights) for s in found.stages],
        "bf16 copies": [size(s.copies) for s in found.stages],
        "gradients": [size(s.gradients) for s in found.stages],
        "optimiser": [size(s.optimizer) for s in found.stages],
        "activations": [size(s.activations) for s in found.stages],
        "peak": [f"[b]{size(s.peak)}[/b]" for s in found.stages],
        f"fits into {size(found.memory)}": [
            "[green]yes[/green]" if s.peak <= found.usable else "[red]no[/red]"
            for s in found.stages
        ],
        "a micro-batch": [_batch(s.load) for s in found.stages],
        "the largest that fits": [_batch(s.largest) for s in found.stages],
        "GFLOPs per second of audio": [f"{s.flops_per_audio_s / 1e9:,.0f}" for s in found.stages],
        "steps per epoch": [_or_dash(s.steps_per_epoch, "{:,}") for s in found.stages],
        "hours per epoch": [
            _or_dash(None if s.epoch_s is None else s.epoch_s / 3600, "{:,.2g}")
            for s in found.stages
        ],
    }
    for label, cells in rows.items():
        table.add_row(label, *cells)
    return table


def _notes(found: Plan) -> list[str]:
    notes = [
        f"Clips are taken to last {found.clip_s:g} s. {size(found.usable)} of the memory are taken "
        f"to be usable; activations are estimated from shapes."
    ]
    if found.flops_per_s:
        rate = found.flops_per_s / 1e12
        notes.append(f"Time is an estimate at a sustained {rate:g} TFLOP/s, waiting not included.")
    lacking = [stage for stage in found.stages if stage.peak > found.usable]
    gpu = found.memory if found.device.startswith("cuda") else 0
    notes += [
        sentence(s.name, s.advice, s.load.clips, s.largest_batch_s, found.clip_s, gpu)
        for s in lacking
    ]
    return notes


def _batch(load: Load | None) -> str:
    if load is None:
        return "none"
    return f"{load.audio_s:,.0f} s, {load.clips:,} clips, {load.tokens:,} tokens"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
