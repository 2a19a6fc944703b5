"""Tiny real models for tests: every preset with the same code and small numbers, random weights.

Nothing here is a mock. Encoders and decoders are transformers' own classes at toy width, written to
disk in the Hub's layout and read back by the library, so a test walks the path that a user walks.
"""

import functools
import json
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    WhisperForConditionalGeneration,
)

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.hub import architecture_of
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.model.projector import (
    BlpConfig,
    ConvMlpConfig,
    LinearConfig,
    MlpConfig,
    MoeConfig,
    StatisticsConfig,
    SwigluConfig,
    TransformerConfig,
)
from tiny_audio.model.qformer import QformerConfig
from tiny_audio.presets import PRESETS, preset
from tiny_audio.presets.preset import Preset

WAVEFORM: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    # 16 channels a group: with 8, oneDNN computes a bfloat16 convolution wrongly on AMX.
    "num_conv_pos_embedding_groups": 2,
}
LAYER_NORM = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
ENCODERS: dict[str, dict[str, Any]] = {
    "whisper": {
        "model_type": "whisper",
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_layers": 1,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 48,
        "num_mel_bins": 80,
        "vocab_size": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
    "hubert": {"model_type": "hubert", **WAVEFORM},
    "hubert_large": {"model_type": "hubert", **WAVEFORM, **LAYER_NORM},
    "wav2vec2": {"model_type": "wav2vec2", **WAVEFORM},
    "wavlm": {"model_type": "wavlm", **WAVEFORM},
    "wavlm_large": {"model_type": "wavlm", **WAVEFORM, **LAYER_NORM},
}
LANGUAGE_MODEL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DECODERS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": False, **LANGUAGE_MODEL},
    "smollm3": {"model_type": "smollm3", "tie_word_embeddings": True, **LANGUAGE_MODEL},
    "llama": {"model_type": "llama", "tie_word_embeddings": True, **LANGUAGE_MODEL},
}
PROJECTORS: dict[str, ProjectorConfig] = {
    "linear": LinearConfig(k=3),
    "mlp": MlpConfig(k=4, hidden=48),
    "swiglu": SwigluConfig(k=5, hidden=48),
    "conv_mlp": ConvMlpConfig(hidden=48),
    "blp": BlpConfig(expand=2),
    "qformer": QformerConfig(window=15, queries=3, depth=2, heads=4, hidden=32),
    "moe": MoeConfig(k=4, experts=3, hidden=24),
    "transformer": TransformerConfig(k=5, width=32, depth=2, heads=4),
    "statistics": StatisticsConfig(k=10),
}
# Templates with the traits of the families' own: an empty thinking block, a dated system turn, a
# BOS and headers. Written here; the originals come with the models.
TEMPLATES = {
    "qwen3": (
        "{%- for m in messages -%}"
        "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
        "{%- if enable_thinking is defined and enable_thinking is false -%}"
        "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}"
    ),
    "smollm3": (
        "{{- '<|im_start|>system\\nToday is ' + strftime_now('%d %B %Y') + '<|im_end|>\\n' -}}"
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + (m.content | trim)"
        " + '<|im_end|>\\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}"
        "{{- '<|im_start|>assistant\\n' -}}{%- if not enable_thinking -%}"
        "{{- '<think>\\n\\n</think>\\n' -}}{%- endif -%}{%- endif -%}"
    ),
    "llama": (
        "{{- '<|bos|>' -}}{%- for m in messages -%}"
        "{{- '<|header|>' + m.role + '<|/header|>\\n\\n'"
        " + (m.content | trim) + '<|im_end|>' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}"
        "{{- '<|header|>assistant<|/header|>\\n\\n' -}}{%- endif -%}"
    ),
}
UNSEEN = ("k_proj.bias",)  # softmax does not see a shift of all its keys
SPECIAL = "<|pad|> <|im_start|> <|im_end|> <|endoftext|> <think> </think>".split()
SPECIAL += "<|bos|> <|header|> <|/header|>".split()


@functools.cache
def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens with the family's kind of chat template."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = ["transcribe the audio", "one two three four five", "turn on the light"] * 9
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATES[family],
    )


@functools.cache
def shelf() -> Path:
    """A folder of this test run in which the toy parts lie like downloaded checkpoints."""
    return Path(tempfile.mkdtemp(prefix="toy-parts-"))


@functools.cache
def encoder_folder(name: str) -> str:
    """A toy encoder in the Hub's layout (Whisper with its decoder, as people download it)."""
    torch.manual_seed(1)
    values = dict(ENCODERS[name])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    whisper = config.model_type == "whisper"
    model = WhisperForConditionalGeneration(config) if whisper else AutoModel.from_config(config)
    model.save_pretrained(shelf() / name)
    return str(shelf() / name)


@functools.cache
def decoder_folder(family: str) -> str:
    """A toy language model with its tokenizer in the Hub's layout."""
    torch.manual_seed(2)
    values = {**DECODERS[family], "vocab_size": len(tokenizer(family))}
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    AutoModelForCausalLM.from_config(config).save_pretrained(shelf() / f"lm_{family}")
    tokenizer(family).save_pretrained(shelf() / f"lm_{family}")
    return str(shelf() / f"lm_{family}")


def encoder_config(name: str, **changes: Any) -> EncoderConfig:
    source = encoder_folder(name)
    return EncoderConfig(architecture=architecture_of(source), source=source, **changes)


def decoder_config(family: str) -> DecoderConfig:
    source = decoder_folder(family)
    return DecoderConfig(architecture=architecture_of(source), source=source)


def toy_preset(name: str) -> Preset:
    """A preset with toy parts of the same families, everything else as it stands in the preset."""
    real = preset(name)
    family = "hubert_large" if real.encoder.family == "hubert" else real.encoder.family
    depth = {0: 0, 7: 1, 15: 1, 32: 2, 3: 1, 4: 2}  # MuFun's hidden states in two layers
    layers = tuple(depth.get(n, n) for n in real.encoder.layers)
    encoder = encoder_config(
        family, window=real.encoder.window, layers=layers, pool=real.encoder.pool
    )
    decoder = decoder_config(real.decoder.architecture["model_type"])
    small = {"hidden": 48} if hasattr(real.projector, "hidden") else {}
    return replace(
        real, encoder=encoder, decoder=decoder, projector=replace(real.projector, **small)
    )


def quick(values: Iterable[Any], first: Collection[Any]) -> list[Any]:
    """Parameters of a test: all of them, of which those that are not among `first` are slow."""
    return [pytest.param(v, marks=() if v in first else pytest.mark.slow) for v in values]


# One of each kind of encoder and projector; the others are much like these, or hear 30 s a window.
EVERY_PRESET = quick(PRESETS, ("nano", "hubert_swiglu_qwen3"))


def clips(*num_samples: int, seed: int = 0) -> list[torch.Tensor]:
    """Speech-like noise: a few drifting tones, different in every clip."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in num_samples:
        t = torch.arange(n) / 16_000
        pitch = 100 + 400 * torch.rand(3, 1, generator=generator)
        tones = torch.sin(2 * torch.pi * pitch * t * (1 + 0.3 * t)).sum(0)
        made.append(0.1 * tones + 0.02 * torch.randn(n, generator=generator))
    return made


def assert_gradients(module: torch.nn.Module, zero: tuple[str, ...] = ()) -> None:
    """What trains has a finite gradient, which is not nought but where a name ends so; nothing else
    has one.
    """
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any() or name.endswith(zero), f"{name} gets no gradient"
        else:
            assert parameter.grad is None, f"{name} is frozen"


REPOSITORY = Path(__file__).resolve().parents[1]


def samples() -> list[tuple[Path, str]]:
    """The repository's own sample clips and what is said in them."""
    folder = REPOSITORY / "samples"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [(folder / row["audio"], row["text"]) for row in rows]
