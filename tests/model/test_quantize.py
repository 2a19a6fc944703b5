"""int8 weights: close to what they stand for, and never mistaken for it."""

import pytest
import torch
import toys

import tiny_audio
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.quantize import is_quantised, quantise


@pytest.mark.slow
def test_nano_in_eight_bits_writes_the_same_and_is_not_saved(tmp_path):
    small = Transcriber.from_pretrained("nano", quantize="int8")
    whole = Transcriber.from_pretrained("nano", check=False)
    assert is_quantised(small.model)
    assert not is_quantised(whole.model)
    path, text = toys.samples()[0]
    assert small.transcribe(path).text == whole.transcribe(path).text == text
    with pytest.raises(CheckpointError, match="quantised"):
        tiny_audio.save(small.model, tmp_path / "model")


@pytest.mark.parametrize("family", ["nano", "hubert_swiglu_qwen3", "whisper_tiny"])
def test_embeddings_in_eight_bits_are_close(family):
    model = toys.toy_preset(family).build()
    clip = toys.clips(9_000)[0]
    before = model.encode(clip, 16_000)
    after = quantise(model, "int8").encode(clip, 16_000)
    assert 0 < (before - after).norm() < 0.05 * before.norm()


@pytest.mark.slow
def test_what_cannot_be_quantised_is_refused():
    with pytest.raises(ConfigError, match="int8"):
        tiny_audio.load("nano", quantize="int4", check=False)
    with pytest.raises(ConfigError, match="float32"):
        tiny_audio.load("nano", quantize="int8", dtype=torch.bfloat16, check=False)
    model = toys.toy_preset("nano").build()
    model.add_lora("encoder", LoraConfig(rank=2, targets=("q_proj",)))
    with pytest.raises(ConfigError, match="adapters of an encoder"):
        quantise(model, "int8")
