"""Whisper large-v3-turbo, SwiGLU over five stacked frames, SmolLM3-3B; both ends frozen."""

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import SwigluConfig

from .parts import SMOLLM3_3B, WHISPER_LARGE_V3_TURBO
from .preset import Preset

PRESET = Preset(
    name="whisper_swiglu_smollm3",
    encoder=EncoderConfig(
        architecture=WHISPER_LARGE_V3_TURBO,
        source="openai/whisper-large-v3-turbo",
        window="full",
    ),
    projector=SwigluConfig(k=5, hidden=8192),
    decoder=DecoderConfig(architecture=SMOLLM3_3B, source="HuggingFaceTB/SmolLM3-3B"),
)
