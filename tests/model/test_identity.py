"""What a checkpoint belongs to: hashes of its parts, golden vectors of every stage."""

import pytest
import torch
import toys
from pairs import model_of
from torch import nn

from tiny_audio.model.identity import as_dtype, golden, identity, weights_hash


def test_a_part_s_hash_is_the_same_in_float32_and_bfloat16():
    layer = nn.Linear(5, 3)
    exact = weights_hash(layer, set())
    assert weights_hash(layer.to(torch.bfloat16), set()) == exact
    assert weights_hash(layer.float(), set()) == exact


def test_a_part_s_hash_sees_every_weight_name_and_shape():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    seen = {weights_hash(layer, set()), weights_hash(layer, {"bias"})}
    with torch.no_grad():
        layer.weight[3, 3] += 0.5
    seen.add(weights_hash(layer, set()))
    layer.weight = nn.Parameter(layer.weight.reshape(2, 8))
    seen.add(weights_hash(layer, set()))
    seen.add(weights_hash(nn.Sequential(layer), set()))
    assert len(seen) == 5


def test_a_part_s_hash_does_not_see_adapters_put_on_it():
    recipe = toys.toy_preset("hubert_swiglu_qwen3")
    model = recipe.build()
    before = identity(model, [])
    for part, lora in recipe.lora.items():
        model.add_lora(part, lora)
    assert identity(model, list(model.trainable())) == before


@pytest.mark.parametrize("encoder", ["whisper", "whisper_full", "hubert"])
def test_golden_vectors_are_every_stage_of_one_second_and_leave_the_mode_alone(encoder):
    model = model_of(encoder, "swiglu").train()
    stages = golden(model)
    assert model.training
    assert list(stages) == ["features", "frames", "audio", "logits"]
    assert stages["frames"].shape[1] == model.config.encoder.frames_for(16_000)
    assert stages["audio"].shape[1] == model.config.positions_for(16_000)
    assert stages["logits"].shape == (1, model.config.text_config.vocab_size)
    model.eval()
    assert all(torch.equal(tensor, stages[name]) for name, tensor in golden(model).items())


def test_dtypes_are_read_however_transformers_spells_them():
    spelled = ["bfloat16", "torch.bfloat16", torch.bfloat16]
    assert {as_dtype(name) for name in spelled} == {torch.bfloat16}
    assert {as_dtype(name) for name in (None, "auto", "float32")} == {torch.float32}
