"""The language model that writes: any causal LM of transformers with a chat template.

Here it is only read from disk and made ready. How it is prompted is `prompt.py`, how audio enters
it is `modeling.py`, how it writes is `generation.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .config import StrictConfig
from .encoder import reading
from .errors import CheckpointError
from .prompt import add_audio_token


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(StrictConfig):
    """Which language model. `architecture` is its own transformers config as a dict; every width
    follows from it. `source` (Hub id or folder) says where weights and tokenizer come from.
    """

    architecture: dict[str, Any]
    source: str = ""

    @property
    def hf(self) -> PreTrainedConfig:
        """A fresh copy of the language model's own config object."""
        values = dict(self.architecture)
        return AutoConfig.for_model(values.pop("model_type"), **values)


def empty_decoder(config: DecoderConfig) -> PreTrainedModel:
    """The decoder with fresh weights (or none, under `torch.device("meta")`)."""
    return AutoModelForCausalLM.from_config(config.hf)


def decoder_architecture(source: str) -> dict[str, Any]:
    """Read the language model's own config from a Hub id or a folder (config.json only)."""
    with reading(source):
        config = AutoConfig.from_pretrained(source, local_files_only=Path(source).is_dir())
    return config.to_dict()


def load_decoder(config: DecoderConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The pretrained language model, whole: missing or unknown weights are a `CheckpointError`."""
    with reading(config.source):
        model, report = AutoModelForCausalLM.from_pretrained(
            config.source,
            config=config.hf,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=Path(config.source).is_dir(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
        )
    problems = {name: sorted(map(str, keys)) for name, keys in report.items() if keys}
    if problems:
        said = "; ".join(f"{name}: {', '.join(keys[:5])}" for name, keys in problems.items())
        raise CheckpointError(f"The language model in {config.source} is not whole ({said}).")
    return model


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The decoder's tokenizer, with the audio placeholder added."""
    with reading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=Path(source).is_dir())
    add_audio_token(tokenizer)
    return tokenizer


def own_ends(model: PreTrainedModel) -> list[int]:
    """Ids at which the language model's own generation settings stop (Qwen3 has two)."""
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
