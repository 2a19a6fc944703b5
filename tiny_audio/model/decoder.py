"""The language model that writes: any causal LM of transformers with a chat template.

Here it is only read from disk and made ready. How it is prompted is `prompt.py`, how audio enters
it is `modeling.py`, how it writes is `generation.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .bounds import check_numbers
from .config import StrictConfig
from .hub import read_part, read_tokenizer
from .prompt import add_audio_token


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(StrictConfig):
    """The configuration of a language model. `architecture` is its own transformers config as a
    dict, from which every width follows. `source` (see `sources.py`) says where weights and
    tokenizer come from, and `quantisation` how the weights were quantised there, e.g. "Q4_1"; ""
    for not at all.
    """

    architecture: dict[str, Any]
    source: str = ""
    quantisation: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self.architecture, "The decoder's config.json")

    @property
    def hf(self) -> PreTrainedConfig:
        """Return a fresh copy of the language model's own config object."""
        values = dict(self.architecture)
        return AutoConfig.for_model(values.pop("model_type"), **values)


def empty_decoder(config: DecoderConfig) -> PreTrainedModel:
    """Make the decoder with fresh weights, or without any under `torch.device("meta")`."""
    return AutoModelForCausalLM.from_config(config.hf, trust_remote_code=False)


def load_decoder(
    config: DecoderConfig, dtype: torch.dtype = torch.float32, **hub: Any
) -> PreTrainedModel:
    """Load the whole language model; missing or unknown weights are a `CheckpointError`."""
    return read_part(AutoModelForCausalLM, config.source, config.hf, dtype, hub)


def load_tokenizer(source: str, **hub: Any) -> PreTrainedTokenizerBase:
    """Load the decoder's tokenizer, and add the audio placeholder to it."""
    tokenizer = read_tokenizer(source, **hub)
    add_audio_token(tokenizer)
    return tokenizer


def own_ends(model: PreTrainedModel) -> list[int]:
    """Return the ids at which the language model's own generation settings stop (Qwen3 has two)."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Switch dropout off, so that a frozen decoder may stay in training mode: transformers
    checkpoints activations only there, and the gradient to the projector goes through every layer
    (trap T14).
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(vars(module).get(name), float):
                setattr(module, name, 0.0)
    return model
