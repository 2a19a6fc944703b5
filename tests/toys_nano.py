"""Small real parts for the training tests: nano's classes at toy width."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from recipes.nano import align, lm
from recipes.nano.ctc import CtcModel
from tiny_audio.model.encoder import EncoderConfig, empty_encoder

ENCODER = EncoderConfig(
    architecture={
        "model_type": "whisper",
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 80,
        "max_source_positions": 500,
    }
)
SENTENCES = ["one two three", "turn on the light", "what time is it", "half past seven"]


def small_ctc_model():
    torch.manual_seed(0)
    return CtcModel(empty_encoder(ENCODER))


def small_tokenizer():
    return lm.train_tokenizer(SENTENCES * 10)


def small_decoder(tokenizer):
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def small_model():
    tokenizer = small_tokenizer()
    encoder = empty_encoder(ENCODER)
    return align.new_model(encoder, small_decoder(tokenizer), tokenizer, seed=0)
