"""Decoders: read whole, without dropout, and never resized."""

import pytest
import torch
import toys
from pairs import decoder_of
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tiny_audio.model.decoder import (
    DecoderConfig,
    empty_decoder,
    load_decoder,
    load_tokenizer,
    without_dropout,
)
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.hub import architecture_of
from tiny_audio.model.prompt import AUDIO_TOKEN

FAMILIES = list(toys.DECODERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_computes_what_transformers_computes(family):
    stock = AutoModelForCausalLM.from_pretrained(toys.decoder_folder(family)).eval()
    ids = torch.arange(9, 40)[None]
    torch.testing.assert_close(decoder_of(family).eval()(ids).logits, stock(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_in_training_mode_has_no_dropout(family):
    """It stays in training mode so that activations can be checkpointed (trap T14)."""
    architecture = {**architecture_of(toys.decoder_folder(family)), "attention_dropout": 0.5}
    decoder = without_dropout(empty_decoder(DecoderConfig(architecture=architecture))).train()
    ids = torch.arange(9, 40)[None]
    assert torch.equal(decoder(ids).logits, decoder(ids).logits)
    torch.testing.assert_close(decoder(ids).logits, decoder.eval()(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_tables_stay_one_tensor_and_untied_ones_two(family):
    decoder = load_decoder(toys.decoder_config(family))
    table, head = decoder.get_input_embeddings().weight, decoder.get_output_embeddings().weight
    assert (table is head) == toys.DECODERS[family]["tie_word_embeddings"]


@pytest.mark.parametrize("edit", ["missing", "renamed", "reshaped"])
def test_a_decoder_that_is_not_whole_is_refused_and_the_key_named(edit, tmp_path):
    source, key = toys.decoder_folder("qwen3"), "model.layers.0.self_attn.q_norm.weight"
    weights = load_file(f"{source}/model.safetensors")
    taken = weights.pop(key)
    if edit == "renamed":
        weights[f"{key}.old"] = taken
    if edit == "reshaped":
        weights[key] = taken[:-1].contiguous()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    AutoConfig.from_pretrained(source).save_pretrained(tmp_path)
    architecture = architecture_of(str(tmp_path))
    with pytest.raises(CheckpointError, match=key):
        load_decoder(DecoderConfig(architecture=architecture, source=str(tmp_path)))


def test_the_dtype_is_the_one_asked_for_not_the_checkpoint_s(tmp_path):
    """transformers 5 keeps the dtype that a file happens to have (trap T19)."""
    stock = AutoModelForCausalLM.from_pretrained(toys.decoder_folder("llama"))
    stock.half().save_pretrained(tmp_path)
    config = DecoderConfig(architecture=architecture_of(str(tmp_path)), source=str(tmp_path))
    assert {p.dtype for p in load_decoder(config).parameters()} == {torch.float32}
    half = load_decoder(config, torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_gets_its_placeholder_once_and_no_other_token(family):
    tokenizer = load_tokenizer(toys.decoder_folder(family))
    assert len(tokenizer) == len(toys.tokenizer(family)) + 1
    assert tokenizer.convert_tokens_to_ids(AUDIO_TOKEN) == len(tokenizer) - 1
    ids = tokenizer.encode("turn on the light", add_special_tokens=False)
    assert ids == toys.tokenizer(family).encode("turn on the light", add_special_tokens=False)
