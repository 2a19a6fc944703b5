"""Advice for a stage that does not fit; it names nothing that the recipe does already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiny_audio.model.modeling import AudioLM
from tiny_audio.scope.plan.cost import Load, activations, decoder_layers, encoder_layers, size
from tiny_audio.train.recipe import Stage

MOST_DEVICES = 512


@dataclass(frozen=True)
class Advice:
    """The facts from which advice for one stage is made."""

    again: bool  # the recipe computes activations again already (`checkpoint_activations`)
    trains: Sequence[str]  # parts whose own weights train
    fits_again: int  # clips of a micro-batch that fit with activations computed again
    least: int  # bytes that a single device needs for one clip
    devices: int | None  # devices among which fsdp must spread the weights; None: too many
    micro_batches: int  # of the recipe


def peak(weights: int, copies: int, gradients: int, optimizer: int, activations: int) -> int:
    """Return the worse of a backward pass and an optimiser step, whose temporaries are one more
    number a weight: the activations are gone by then.
    """
    return weights + gradients + optimizer + max(copies + activations, gradients)


def advise(
    model: AudioLM,
    stage: Stage,
    fixed: tuple[int, int, int, int],
    one: Load,
    wide: int,
    usable: int,
    fits_again: int,
    micro_batches: int,
) -> Advice:
    """Work out what would let a stage run. `fixed` are the bytes of weights, copies, gradients and
    optimiser on a single device.
    """
    lean = activations(model, replace(stage, checkpoint_activations=True), one, wide)
    depth = min(decoder_layers(model).depth, encoder_layers(model).depth)
    trains = [part for part, rate in stage.learning_rate.items() if rate and part not in stage.lora]
    return Advice(
        again=stage.checkpoint_activations,
        trains=trains,
        fits_again=fits_again,
        least=peak(*fixed, lean),
        devices=devices_for(fixed, lean, fixed[0] // depth, usable),
        micro_batches=micro_batches,
    )


def devices_for(
    fixed: tuple[int, int, int, int], activations: int, layer: int, usable: int
) -> int | None:
    """Return the fewest devices on which one clip each fits, where every one holds an equal share
    of `fixed` and, for the time of its use, one whole `layer`.
    """
    for number in range(1, MOST_DEVICES + 1):
        weights, copies, gradients, optimizer = (each // number for each in fixed)
        most = peak(weights, copies, gradients, optimizer, activations)
        if most + (layer if number > 1 else 0) <= usable:
            return number
    return None


def sentence(
    name: str, advice: Advice, clips: int, largest_s: float, clip_s: float, gpu_memory: int
) -> str:
    """Return the advice for a stage of this name that does not fit with `clips` in a micro-batch.

    `largest_s` is the largest batch that fits, 0 for none; `gpu_memory` is 0 where there is no GPU.
    """
    checkpointed = f"stages.{name}.checkpoint_activations=true"
    ways = []
    if largest_s:
        ways.append(f"set data.batch_s={largest_s:g}")
    if advice.fits_again >= clips and not advice.again:
        ways.append(f"set {checkpointed}")
    elif not largest_s and advice.fits_again and not advice.again:
        ways.append(f"set {checkpointed} and data.batch_s={advice.fits_again * clip_s:g}")
    if ways:
        return f"{name} does not fit; {', or '.join(ways)}."
    return (
        f"{name} does not fit, not even with one clip: a single device would need "
        f"{size(advice.least)}. {_more_devices(advice, gpu_memory)}{_smaller(advice)}"
    )


def _more_devices(advice: Advice, gpu_memory: int) -> str:
    if not gpu_memory or advice.devices is None:
        return "Take a device with more memory."
    batches = max(advice.devices, advice.micro_batches)
    batches = -(-batches // advice.devices) * advice.devices
    given = "" if batches == advice.micro_batches else f" data.micro_batches={batches}"
    return (
        f"It needs {advice.devices} GPUs of {size(gpu_memory)} with strategy=fsdp{given} (an "
        f"estimate), or one GPU with more memory."
    )


def _smaller(advice: Advice) -> str:
    large = [part for part in advice.trains if part != "projector"]
    if not large:
        return ""
    return f" Training only adapters (lora) of the {' and the '.join(large)} needs less memory."
