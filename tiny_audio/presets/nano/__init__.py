"""nano: our own small encoder and language model, in this folder, with a trained projector."""

from pathlib import Path

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import SwigluConfig
from tiny_audio.presets.preset import Preset

FOLDER = Path(__file__).parent
ENCODER = {
    "model_type": "whisper",
    "d_model": 256,
    "encoder_layers": 5,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 1024,
    "num_mel_bins": 80,
    "max_source_positions": 500,  # windows of up to 10 s
}
DECODER = {
    "model_type": "qwen3",
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 896,
    "vocab_size": 1536,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}

PRESET = Preset(
    name="nano",
    encoder=EncoderConfig(architecture=ENCODER, source=str(FOLDER / "encoder")),
    projector=SwigluConfig(k=4, hidden=256),
    decoder=DecoderConfig(architecture=DECODER, source=str(FOLDER / "decoder")),
)
