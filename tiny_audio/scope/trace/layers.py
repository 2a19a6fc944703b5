"""Recording what happens inside a projector of any kind: its layers, in the order they ran in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tiny_audio.model.projection import Projector, StackConfig

Stages = dict[str, Tensor]

# What stands between two layers has no module, so it is seen as the input of the next one.
BETWEEN = {
    "swiglu": {"down_proj": "silu(gate) × up"},
    "mlp": {"linear_2": "GELU"},
    "blp": {"linear_2": "GELU"},
    "conv_mlp": {"conv_2": "GELU 1", "linear_1": "GELU 2", "linear_2": "GELU 3"},
    "moe": {"linear_2": "weighted experts"},
    "qformer": {"layers.0": "queries"},
}


def layers(projector: Projector) -> dict[str, nn.Module]:
    """Return the projector's own layers by name; those of a list are `list.0`, `list.1` …"""
    found: dict[str, nn.Module] = {}
    for name, module in projector.named_children():
        inner = module.named_children() if isinstance(module, nn.ModuleList) else ()
        found |= {f"{name}.{number}": layer for number, layer in inner} or {name: module}
    return found


@contextmanager
def recorded(projector: Projector) -> Iterator[Stages]:
    """Fill a dict while open, with one clip's call of the projector: stage → (steps, width)."""
    stages: Stages = {}
    with ExitStack() as stack:
        for name, module in layers(projector).items():
            before, after = _hooks(projector, name, stages)
            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after).remove)
        yield stages


def _hooks(projector: Projector, name: str, stages: Stages) -> tuple[Any, Any]:
    def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = _rows(module, args[0])
        if not stages:
            if isinstance(projector.config, StackConfig):  # others take the frames as they are
                stages["stacked frames"] = rows
        elif not any(torch.equal(rows, seen) for seen in stages.values()):
            stages[BETWEEN.get(projector.config.kind, {}).get(name, f"into {name}")] = rows

    def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        stages[name] = _rows(module, output)

    return before, after


def _rows(module: nn.Module, values: Tensor) -> Tensor:
    """Bring (1, steps, width), a convolution's (1, width, steps), or (windows, queries, width) to
    rows.
    """
    values = values.transpose(1, 2) if isinstance(module, nn.Conv1d) else values
    return values.detach().flatten(0, -2).float().cpu()
