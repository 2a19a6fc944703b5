"""Exported models compute what the model here computes. ONNX needs the extra `onnx`:

uv run --extra onnx pytest tests/export -n0 -m ''
"""

import json

import pytest
import torch
import toys
from transformers import AutoModelForCausalLM
from typed import typed

from tiny_audio.export.merged import export_merged
from tiny_audio.export.onnx import NOTES, export_onnx, window_of
from tiny_audio.export.replay import Replayed, replay_merged, replay_onnx
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.saving import save
from tiny_audio.presets import load


@pytest.fixture
def adapted(tmp_path):
    """A toy whose decoder has adapters with weights of their own."""
    model = toys.toy_preset("nano").build()
    model.add_lora("decoder", LoraConfig(rank=2, targets=("q_proj", "v_proj")))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return str(save(model, tmp_path / "adapted"))


def test_a_merged_model_computes_the_same_and_its_decoder_stands_alone(adapted, tmp_path):
    folder = export_merged(load(adapted), tmp_path / "merged")
    found = replay_merged(adapted, folder)
    assert found.good
    assert set(found.differences) == {"features", "frames", "audio", "logits"}
    merged = load(folder)
    assert merged.config.lora_config is None
    assert not [name for name, _ in merged.named_parameters() if "lora_" in name]
    ids = torch.tensor([[5, 6, 7]])
    alone = AutoModelForCausalLM.from_pretrained(folder / "decoder", trust_remote_code=False)
    whole = load(adapted).language_model(input_ids=ids).logits
    torch.testing.assert_close(alone(input_ids=ids).logits, whole, rtol=1e-3, atol=1e-4)


def test_a_difference_is_told_and_fails(adapted, tmp_path):
    model = load(adapted)
    folder = export_merged(model, tmp_path / "merged", torch.bfloat16)
    found = replay_merged(adapted, folder)
    assert not found.good
    assert 1e-3 < found.differences["logits"] < 0.2
    assert not Replayed({"audio": 0.0}, clips=2, equal=1).good
    command = ["export", adapted, "--out", str(tmp_path / "b"), "--dtype", "bfloat16", "--check"]
    done = typed(*command)
    assert done.exit_code == 1
    assert "logits: largest difference" in done.output


def test_what_cannot_be_one_graph_is_refused():
    for name in ("hubert_swiglu_qwen3",):
        with pytest.raises(ConfigError, match="cannot be one graph"):
            window_of(toys.toy_preset(name).build())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano", "whisper_conv_smollm3"])
def test_the_graph_computes_the_same(name, tmp_path):
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs: pip install 'tiny-audio[onnx]'")
    model = toys.toy_preset(name).build()
    graph = export_onnx(model, tmp_path)
    found = replay_onnx(model, graph)
    assert found.good, found
    notes = json.loads((tmp_path / NOTES).read_text())
    assert notes["steps"] == window_of(model).steps
    with torch.no_grad():
        for weight in model.projector.parameters():
            weight.mul_(1.5)
    assert not replay_onnx(model, graph).good, "another projector is another computation"
