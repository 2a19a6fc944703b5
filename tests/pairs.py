"""Every encoder with every projector: models put together from toy parts, and clips for them."""

import functools
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

from tiny_audio.model.checkpoint import assemble, scale_projector
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.decoder import load_decoder, load_tokenizer
from tiny_audio.model.encoder import AudioEncoder, EncoderConfig, load_encoder
from tiny_audio.model.features import Features
from tiny_audio.model.identity import base_digests
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.model.prompt import PromptConfig, audio_token_id, resolved

QUICK = {"whisper", "swiglu"}
# One Whisper per kind of window, both kinds of front end of the others.
ENCODERS = (*toys.ENCODERS, "whisper_full")
PAIRS = [
    # Every encoder and every projector is quick once.
    pytest.param(encoder, projector, marks=() if {encoder, projector} & QUICK else pytest.mark.slow)
    for encoder in toys.ENCODERS
    for projector in toys.PROJECTORS
]
# 1500 frames are slow; the projectors that the presets put behind a full window stand for all.
PAIRS += [
    pytest.param("whisper_full", projector, marks=pytest.mark.slow)
    for projector in ("swiglu", "conv_mlp", "blp")
]


def toy_encoder(name: str, **changes: Any) -> EncoderConfig:
    """The configuration of a toy encoder; `whisper_full` pads to its window of 30 s."""
    if name == "whisper_full":
        return toys.encoder_config("whisper", window="full", **changes)
    return toys.encoder_config(name, **changes)


@functools.cache
def encoder_of(name: str) -> AudioEncoder:
    return load_encoder(toy_encoder(name))


@functools.cache
def decoder_of(family: str) -> Any:
    return load_decoder(toys.decoder_config(family))


def model_of(encoder: str, projector: str | ProjectorConfig, family: str = "qwen3") -> AudioLM:
    """A model around toy parts that are shared within this process, in evaluation mode."""
    tokenizer = load_tokenizer(toys.decoder_folder(family))
    chosen = toys.PROJECTORS[projector] if isinstance(projector, str) else projector
    config = AudioLMConfig(
        audio_config=toy_encoder(encoder).to_dict(),
        projector_config=chosen.to_dict(),
        decoder_config=toys.decoder_config(family).to_dict(),
        prompt_config=resolved(PromptConfig(), tokenizer).to_dict(),
        audio_token_id=audio_token_id(tokenizer),
    )
    torch.manual_seed(3)
    model = assemble(config, encoder_of(encoder), decoder_of(family), tokenizer).eval()
    model.base_digests = base_digests(model)
    scale_projector(model)
    return model


def processor_of(model: AudioLM) -> AudioProcessor:
    return AudioProcessor(model.tokenizer, model.config)


def batch_of(model: AudioLM, clips: list[Tensor], **options: Any) -> Any:
    return processor_of(model)(audio=clips, sampling_rate=16_000, **options)


def features_of(batch: Any) -> Features:
    name = "input_features" if "input_features" in batch else "input_values"
    return Features(batch[name], batch[f"{name}_mask"].sum(-1))


def prompts_of(model: AudioLM, batch: Any) -> tuple[Tensor, Tensor]:
    """Prompt embeddings of a batch and their mask, as `generation.write` takes them."""
    audio = model.embed_audio(features_of(batch))
    embeds = model.fuse(batch["input_ids"], audio.audio_BPD, audio.lengths_B)
    return embeds, batch["attention_mask"]
