"""Merged adapters: the same logits from fewer layers, for inference only."""

import pytest
import torch
import toys
from pairs import batch_of, model_of, prompts_of

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.merging import merge_adapters
from tiny_audio.model.saving import save
from tiny_audio.model.steps import steps_of


@pytest.fixture
def adapted():
    """A toy model whose adapters do something."""
    model = toys.toy_preset("nano").build()
    model.add_lora("decoder", LoraConfig(rank=2, alpha=3, targets=("q_proj", "down_proj")))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


def first_logits(model):
    batch = batch_of(model, toys.clips(9_000, 5_000))
    steps = steps_of(model.language_model)
    return steps.begin(*prompts_of(model, batch))


@torch.inference_mode()
def test_a_merged_model_computes_the_same_with_plain_layers(adapted):
    before = first_logits(adapted)
    merge_adapters(adapted)
    assert not [name for name, _ in adapted.named_parameters() if "lora_" in name]
    torch.testing.assert_close(first_logits(adapted), before, atol=1e-4, rtol=1e-4)


def test_a_merged_model_is_not_saved_and_one_without_adapters_is_as_it_was(adapted, tmp_path):
    merge_adapters(adapted)
    with pytest.raises(CheckpointError, match="merged model only infers"):
        save(adapted, tmp_path / "model")
    plain = merge_adapters(model_of("whisper", "swiglu"))
    assert not plain.is_merged
