"""int8 weights: close to what they stand for, and never mistaken for it."""

import pytest
import torch
import toys

import tiny_audio
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model import quantize
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.quantize import is_quantised, quantise


@pytest.mark.slow
def test_nano_in_eight_bits_writes_the_same_and_is_not_saved(tmp_path):
    small = Transcriber.from_pretrained("nano", dtype=torch.int8)
    whole = Transcriber.from_pretrained("nano", check=False)
    assert is_quantised(small.model)
    assert not is_quantised(whole.model)
    path, text = toys.samples()[0]
    assert small.transcribe(path).text == whole.transcribe(path).text == text
    with pytest.raises(CheckpointError, match="quantised"):
        tiny_audio.save(small.model, tmp_path / "model")


@pytest.mark.parametrize("rows", [1, quantize.FEW_ROWS, quantize.FEW_ROWS + 1])
def test_few_and_many_rows_are_close_to_what_they_stand_for(rows):
    torch.manual_seed(rows)
    linear = torch.nn.Linear(96, 40)
    x = torch.randn(rows, 96)
    expected, found = linear(x), quantize.SmallLinear(linear)(x)
    assert found.dtype == x.dtype
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("family", ["nano", "hubert_swiglu_qwen3", "whisper_tiny"])
def test_a_decoder_in_eight_bits_is_close_and_what_it_reads_is_equal(family):
    model = toys.toy_preset(family).build()
    clip = toys.clips(9_000)[0]
    ids = torch.arange(6)[None]
    audio, before = model.encode(clip, 16_000), model.language_model(ids).logits
    quantise(model)
    assert torch.equal(model.encode(clip, 16_000), audio)
    after = model.language_model(ids).logits
    assert 0 < (before - after).norm() < 0.05 * before.norm()


def test_another_device_is_refused():
    with pytest.raises(ConfigError, match="for a CPU"):
        quantise(toys.toy_preset("nano").build().to("meta"))
