"""Low-rank adapters (LoRA, arXiv 2106.09685) on the layers of a pretrained part."""

import re

from torch import nn

from .configuration import LoraConfig
from .errors import ConfigError, MissingExtra


def inject(module: nn.Module, part: str, lora: LoraConfig) -> None:
    """Put trainable adapters on the layers of `module` that `lora` names, in place.

    `part` is what messages call the module. Raises `ConfigError` where it has adapters already, or
    no such layer, and `MissingExtra` without PEFT.
    """
    try:  # transformers asks for what a model's files import otherwise
        import peft
    except ImportError as error:
        raise MissingExtra("LoRA", "lora") from error
    if any("lora_" in name for name, _ in module.named_parameters()):
        raise ConfigError(f"The {part} has LoRA adapters already; train those on.")
    targets = rf".*\.({'|'.join(lora.targets)})"
    if not any(re.fullmatch(targets, name) for name, _ in module.named_modules()):
        raise ConfigError(
            f"LoRA on the {part}: it has no layer named {' or '.join(lora.targets)}. "
            f"Its linear layers: {', '.join(linear_layers(module))}."
        )
    alpha = lora.rank if lora.alpha is None else lora.alpha
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=targets), module
    )
    for name, parameter in module.named_parameters():
        if "lora_" in name:  # peft took the frozen layer's dtype; bf16 loses small steps (T25)
            parameter.data = parameter.data.float()


def linear_layers(module: nn.Module) -> list[str]:
    """Return the names of the linear layers, each once, without their places."""
    layers = module.named_modules()
    return sorted({name.split(".")[-1] for name, m in layers if isinstance(m, nn.Linear)})
