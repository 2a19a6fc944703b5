"""MuFun for music: four hidden layers of Whisper-large-v3, the BLP connector at 20 Hz, Qwen3-8B."""

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import BlpConfig
from tiny_audio.model.prompt import PromptConfig

from .parts import QWEN3_8B, WHISPER_LARGE_V3
from .preset import Preset

PRESET = Preset(
    name="mufun",
    encoder=EncoderConfig(
        architecture=WHISPER_LARGE_V3,
        source="openai/whisper-large-v3",
        window="full",
        layers=(0, 7, 15, 32),
        pool=(5, 2),  # 1500 frames of 30 s → 600 positions
    ),
    projector=BlpConfig(expand=2),
    decoder=DecoderConfig(architecture=QWEN3_8B, source="Qwen/Qwen3-8B"),
    prompt=PromptConfig(instruction="<audio> Describe this music.", long_audio="windows"),
)
