"""HuBERT-xlarge, a SwiGLU projector over five stacked frames, Qwen3-8B, LoRA on both ends."""

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import SwigluConfig

from .parts import HUBERT_XLARGE, QWEN3_8B
from .preset import Preset

PRESET = Preset(
    name="hubert_swiglu_qwen3",
    encoder=EncoderConfig(architecture=HUBERT_XLARGE, source="facebook/hubert-xlarge-ls960-ft"),
    projector=SwigluConfig(k=5, hidden=8192),
    decoder=DecoderConfig(architecture=QWEN3_8B, source="Qwen/Qwen3-8B"),
    lora={
        "encoder": LoraConfig(rank=8, targets=("q_proj", "k_proj")),
        "decoder": LoraConfig(rank=32, targets=("q_proj", "v_proj")),
    },
)
