"""Counting a preset's parameters from the built modules on `meta`: no weights, no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import preset
from tiny_audio.scope.plan.blueprint import weightless
from tiny_audio.scope.plan.cost import size

PARTS = ("encoder", "projector", "decoder")


@dataclass(frozen=True)
class Component:
    """One row: parameters of a part without its adapters, of its adapters, or of everything."""

    name: str
    total: int
    trainable: int
    num_bytes: int

    @property
    def frozen(self) -> int:
        return self.total - self.trainable

    @property
    def trainable_share(self) -> float:
        return self.trainable / self.total if self.total else 0.0


def true_scale(name: str, *, lora: bool = True) -> AudioLM:
    """Make a preset's model on `meta`: frozen parts in bfloat16, what trains in float32.

    With `lora` the preset's adapters are on, as in its later stages.
    """
    chosen = preset(name)
    model = weightless(chosen.config(), torch.bfloat16)
    with torch.device("meta"):
        for part, adapters in (chosen.lora if lora else {}).items():
            model.add_lora(part, adapters)
    return model


def components(model: AudioLM) -> list[Component]:
    """Return every part and its adapters, then all together. Tied weights are counted once."""
    rows = []
    for part in PARTS:
        named = dict(getattr(model, part).named_parameters())
        adapters = {name for name in named if "lora_" in name}
        rows.append(_counted(part, [p for n, p in named.items() if n not in adapters]))
        if adapters:
            label = _label(part, model.config.lora[part])
            rows.append(_counted(label, [named[name] for name in adapters]))
    return [*rows, _counted("all", list(model.parameters()))]


def _counted(name: str, parameters: list[nn.Parameter]) -> Component:
    return Component(
        name,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() * p.element_size() for p in parameters),
    )


def _label(part: str, lora: LoraConfig) -> str:
    return f"{part} LoRA r={lora.rank} {' '.join(lora.targets)}"


def render(name: str, rows: list[Component]) -> Table:
    """Show rows as a table; memory is that of the weights as they lie on a GPU."""
    table = Table(
        title=f"{name}: parameters",
        title_justify="left",
        caption="share: what trains of it. memory: frozen in bfloat16, trainable in float32",
        box=SIMPLE_HEAD,
        caption_justify="left",
    )
    table.add_column("component")
    for heading in ("total", "trainable", "frozen", "share", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        counts = [f"{count:,}" for count in (row.total, row.trainable, row.frozen)]
        share = f"{100 * row.trainable_share:.2f} %"
        table.add_row(row.name, *counts, share, size(row.num_bytes), end_section=row is rows[-2])
    return table
