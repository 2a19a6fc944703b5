"""The decoder's adapters added into the layers that they sit on, for inference: a layer with an
adapter is three products a token, a merged one is one.
"""

from typing import Any

import torch
from torch import nn

from .errors import CheckpointError
from .modeling import AudioLM


@torch.no_grad()
def merge_adapters(model: AudioLM) -> AudioLM:
    """Replace each layer with a LoRA adapter by one with the sum of both weights, in place.

    Sums are rounded to the layer's dtype. Such a model only infers; `save` refuses it. The encoder
    keeps its adapters: CTC heads know it by the hash of its weights.
    """
    decoder = model.language_model
    adapted = {name: m for name, m in decoder.named_modules() if hasattr(m, "lora_A")}
    for name, layer in adapted.items():
        set_module(decoder, name, merged(layer))
    model.is_merged |= bool(adapted)
    return model


def merged(layer: Any) -> nn.Module:
    """Return the base layer of one of PEFT's, with its adapter in its weight."""
    layer.merge()  # in place; PEFT's own check copies every weight
    base: Any = layer.get_base_layer()
    if not base.weight.isfinite().all():
        raise CheckpointError("An adapter holds values that are no numbers. Train it again.")
    module: nn.Module = base
    return module


def set_module(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)
