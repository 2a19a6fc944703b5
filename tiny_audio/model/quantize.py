"""Weights of eight bits in the decoder, for a CPU.

A step of decoding multiplies a few rows by all of the decoder's weights. It takes as long as it
takes to read the weights from memory, and eight bits are a quarter of float32. Encoder and
projector compute whole clips at once, so they stay as they are (`docs/decisions/080`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .merging import merge_adapters, set_module
from .modeling import AudioLM

FEW_ROWS = 48  # up to so many are multiplied by the packed weights: a step of twelve clips


class SmallLinear(nn.Module):
    """A linear layer whose weights are int8, with one scale for every output channel.

    Inputs keep their dtype, but for the products of few rows, which are bfloat16.
    """

    weight_NK: Tensor
    scale_N: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight_NK = linear.weight.detach().float()
        # The scale is rounded before weights are divided by it, so that its rounding costs nothing.
        scale_N = (weight_NK.abs().amax(1).clamp(min=1e-12) / 127).bfloat16()
        steps_NK = (weight_NK / scale_N[:, None].float()).round().clamp(-127, 127)
        self.register_buffer("weight_NK", steps_NK.to(torch.int8))
        self.register_buffer("scale_N", scale_N)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) <= FEW_ROWS:
            small = rows.bfloat16().contiguous()
            product = torch._weight_int8pack_mm(small, self.weight_NK, self.scale_N).to(x.dtype)
        else:
            weight_NK = self.weight_NK.to(x.dtype) * self.scale_N[:, None].to(x.dtype)
            product = F.linear(rows, weight_NK)
        if self.bias is not None:
            product = product + self.bias.to(x.dtype)
        return product.view(*x.shape[:-1], -1)


def quantise(model: AudioLM) -> AudioLM:
    """Give the decoder int8 linear layers, in place, after its adapters are merged.

    Such a model only infers.
    """
    if model.device.type != "cpu":
        raise ConfigError(f"int8 is for a CPU, and this model is on {model.device}; take bfloat16.")
    merge_adapters(model)
    decoder = model.language_model
    plain = [name for name, m in decoder.named_modules() if isinstance(m, nn.Linear)]
    for name in plain:
        set_module(decoder, name, SmallLinear(decoder.get_submodule(name)))
    return model


def is_quantised(model: AudioLM) -> bool:
    return any(isinstance(module, SmallLinear) for module in model.modules())
