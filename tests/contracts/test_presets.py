"""Every preset: true counts from built modules, and the whole way of use at toy width."""

import json
import re
import shutil
import time
from dataclasses import replace

import pytest
import torch
import toys
from pairs import batch_of, processor_of, prompts_of
from transformers import AutoModelForCausalLM

from tiny_audio.model.checkpoint import empty, load
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.generation import write
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save
from tiny_audio.presets import build, preset

# Published counts of the parts, from built modules on `meta` (shared table F of the systems).
HUBERT_XLARGE, WHISPER_LARGE = 962_497_408, 636_968_960
QWEN3_8B, SMOLLM3_3B = 8_190_735_360, 3_075_098_624
README = (toys.REPOSITORY / "README.md").read_text()
COUNTS = {
    "nano": (4_334_592, 591_104, 3_049_600),
    "tiny": (8_208_384, 6_525_888, 134_515_008),
    "whisper_tiny": (8_208_384, 3_737_664, 134_515_008),
    "hubert_swiglu_qwen3": (HUBERT_XLARGE, 138_422_528, QWEN3_8B),
    "whisper_swiglu_smollm3": (WHISPER_LARGE, 121_643_264, SMOLLM3_3B),
    "whisper_conv_smollm3": (WHISPER_LARGE, 16_652_800, SMOLLM3_3B),
    "mufun": (WHISPER_LARGE, 94_386_176, QWEN3_8B),
    "mufun_10hz": (WHISPER_LARGE, 94_386_176, QWEN3_8B),
    "mufun_small": (8_208_384, 8_359_936, 3_049_600),
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# True scale, no weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTS)
def test_a_preset_at_true_scale_is_built_without_weights_in_seconds_with_the_true_counts(name):
    began = time.process_time()
    with torch.device("meta"):
        model = empty(preset(name).config())
    assert time.process_time() - began < 5
    # HuBERT makes its 1280 numbers for SpecAugment in memory, whatever the device.
    assert sum(p.numel() for p in model.parameters() if not p.is_meta) <= 1280
    encoder, projector, decoder = COUNTS[name]
    assert count(model.encoder) == encoder
    assert count(model.decoder) == decoder
    assert count(model.projector) == projector
    assert count(model) == encoder + projector + decoder
    assert sum(p.numel() for p in model.trainable().values()) == projector


def test_the_counts_in_the_readme_are_these():
    for name, counts in COUNTS.items():
        row = re.search(rf"^\| `{name}` .*$", README, flags=re.MULTILINE)
        assert row, f"the README has no row for {name}"
        for number in counts:
            assert f"{number:,}" in row.group(), (name, number)


@pytest.mark.parametrize(
    ("name", "num_samples", "frames", "positions"),
    [
        ("hubert_swiglu_qwen3", 48_000, 149, 30),
        ("hubert_swiglu_qwen3", 16_000, 49, 10),
        ("hubert_swiglu_qwen3", 32_000, 99, 20),
        ("whisper_swiglu_smollm3", 48_000, 150, 30),
        ("whisper_swiglu_smollm3", 480_000, 1500, 300),
        ("whisper_conv_smollm3", 480_000, 1500, 375),
        ("mufun", 480_000, 600, 600),
        ("mufun_10hz", 480_000, 300, 300),
        ("mufun", 960_000, None, 1200),
        ("mufun_small", 480_000, 300, 300),
    ],
)
def test_a_preset_promises_the_true_lengths(name, num_samples, frames, positions):
    config = preset(name).config()
    if frames is not None:
        assert config.encoder.frames_for(num_samples) == frames
    assert config.positions_for(num_samples) == positions


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no 'mufum'. Did you mean 'mufun'"):
        preset("mufum")


def test_a_stock_part_keeps_numbers_that_no_shape_shows(tmp_path):
    """RoPE's base and the norms' epsilon come from the part's config.json, not from the preset."""
    source = tmp_path / "lm"
    shutil.copytree(toys.decoder_folder("llama"), source)
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 123_456.0}
    config["rms_norm_eps"] = 1e-3
    (source / "config.json").write_text(json.dumps(config))
    recipe = toys.toy_preset("whisper_tiny")
    shapes = dict(toys.DECODERS["llama"])
    decoder = replace(recipe.decoder, architecture=shapes, source=str(source))
    model = replace(recipe, decoder=decoder).build()
    stock = AutoModelForCausalLM.from_pretrained(source)
    assert stock.config.rope_parameters["rope_theta"] == 123_456.0
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(model.decoder(ids).logits, stock(ids).logits)


# Toy width, every step ----------------------------------------------------------------------------


@pytest.fixture(params=toys.EVERY_PRESET)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def prepared(name: str) -> AudioLM:
    """Every part of the recipe's training is on: projector and, where it has them, adapters."""
    recipe = toys.toy_preset(name)
    model = recipe.build()
    torch.manual_seed(5)
    for part, lora in recipe.lora.items():
        model.add_lora(part, lora)
    with torch.no_grad():  # an adapter's B starts at zero, which keeps A's first gradient zero
        for key, parameter in model.trainable().items():
            if "lora_B" in key:
                parameter.normal_(std=0.05)
    return model


def test_a_preset_trains_everything_that_is_trainable_and_nothing_else(name):
    model = prepared(name).train()
    clips = toys.clips(9_000, 400, 17_001)
    batch = batch_of(model, clips, answers=["one", "two three", ""], padding_side="right")
    loss = model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert any(key.startswith("projector.") for key in model.trainable())
    toys.assert_gradients(model)


def test_a_preset_writes_the_same_after_save_and_load_alone_and_in_a_batch(name, tmp_path):
    model = prepared(name)
    loaded = load(save(model, tmp_path / name, whole=True))
    clips = toys.clips(9_000, 400, 17_001)
    stop = processor_of(model).stop_ids()
    batch = batch_of(model, clips)
    written = write(model, *prompts_of(model, batch), stop, [5] * 3)
    again = write(loaded, *prompts_of(loaded, batch), stop, [5] * 3)
    assert written == again
    for clip, expected in zip(clips, written, strict=True):
        one = batch_of(loaded, [clip])
        alone = write(loaded, *prompts_of(loaded, one), stop, [5])[0]
        assert alone.tokens == expected.tokens


@pytest.mark.parametrize("encoder", ["hubert", "wavlm_large", "whisper"])
def test_another_encoder_brings_its_own_widths_lengths_normalisation_and_masks(encoder):
    """Course C: one key exchanges the encoder."""
    recipe = toys.toy_preset("whisper_conv_smollm3").with_sources(toys.encoder_folder(encoder))
    model = recipe.build()
    fresh = recipe.encoder
    assert fresh.family == toys.ENCODERS[encoder]["model_type"]
    assert fresh.group_norm == (encoder == "hubert")
    assert fresh.window == ("full" if encoder == "whisper" else "true_length")
    batch = batch_of(model, toys.clips(9_000, 700), answers=["one", "two"])
    assert ("input_features" in batch) == (encoder == "whisper")
    assert torch.isfinite(model(**batch).loss)


def test_another_decoder_brings_its_own_width_and_template():
    recipe = toys.toy_preset("nano").with_sources(decoder=toys.decoder_folder("llama"))
    model = recipe.build()
    assert model.config.text_config.model_type == "llama"
    batch = batch_of(model, toys.clips(900))
    assert "<|header|>" in model.tokenizer.decode(batch["input_ids"][0])


def test_build_by_name_exchanges_parts():
    model = build(
        "whisper_tiny", encoder=toys.encoder_folder("wavlm"), decoder=toys.decoder_folder("qwen3")
    )
    assert model.config.encoder.family == "wavlm"
    assert model.projector.gate_proj.out_features == 1024


def test_the_real_whisper_tiny_runs_the_path(shared):
    model = build(
        "whisper_tiny",
        encoder=str(shared / "models/whisper-tiny.en"),
        decoder=toys.decoder_folder("llama"),
    )
    assert count(model.encoder) == 8_208_384 == COUNTS["whisper_tiny"][0]
    clips = toys.clips(16_000, 24_000)
    batch = batch_of(model, clips, answers=["one", "two"])
    model.train()(**batch).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.trainable().values())
