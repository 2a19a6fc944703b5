"""Whisper tiny.en and SmolLM2-135M: the smallest pair of public parts, for laptops."""

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import SwigluConfig

from .parts import SMOLLM2_135M, WHISPER_TINY_EN
from .preset import Preset

PRESET = Preset(
    name="whisper_tiny",
    # True length: 12.5 × less encoder work on a 2.4 s clip than the 30 s window, and nothing else
    # of Whisper's decoder is used that would need the full one.
    encoder=EncoderConfig(architecture=WHISPER_TINY_EN, source="openai/whisper-tiny.en"),
    projector=SwigluConfig(k=4, hidden=1024),
    decoder=DecoderConfig(architecture=SMOLLM2_135M, source="HuggingFaceTB/SmolLM2-135M-Instruct"),
)
