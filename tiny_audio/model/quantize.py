"""Eight-bit weights for a CPU: nano takes three quarters of the time and makes more word errors
(`docs/decisions/023`).
"""

import warnings
from typing import Literal, get_args

import torch
from torch import nn
from torch.ao.nn.quantized.dynamic import Linear as SmallLinear

from .errors import ConfigError
from .merging import merge_adapters
from .modeling import AudioLM

Quantize = Literal["int8"]


def quantise(model: AudioLM, to: Quantize) -> AudioLM:
    """Give encoder and decoder int8 linear layers, in place; the projector stays as it was trained.

    The decoder's adapters are merged first.
    Every output channel has its scale; inputs are quantised as they come. Such a model only infers.
    """
    if to not in get_args(Quantize):
        raise ConfigError.unknown(str(to), get_args(Quantize), "quantize")
    if model.device.type != "cpu" or model.dtype != torch.float32:
        raise ConfigError(
            f'quantize="{to}" is for float32 models on a CPU, this one is {model.dtype} on '
            f"{model.device}; leave dtype and device out."
        )
    merge_adapters(model)
    if any("lora_" in name for name, _ in model.named_parameters()):
        raise ConfigError(f'quantize="{to}" does not take adapters of an encoder; load without it.')
    by_channel = torch.ao.quantization.per_channel_dynamic_qconfig
    for part in (model.audio_tower.model, model.language_model):
        with warnings.catch_warnings():  # torch announces that torchao takes this over some day
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            torch.ao.quantization.quantize_dynamic(part, {nn.Linear: by_channel}, inplace=True)
    return model


def is_quantised(model: AudioLM) -> bool:
    return any(isinstance(module, SmallLinear) for module in model.modules())
