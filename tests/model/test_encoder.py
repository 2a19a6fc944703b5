"""Encoders compute what the stock models compute, and frozen ones stay frozen."""

from pathlib import Path

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import encoder_of, toy_encoder
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, WhisperModel

from tiny_audio.model.encoder import ENCODERS, EncoderConfig, features, load_encoder, resolve
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.features import average_pool, log_mel
from tiny_audio.model.hub import architecture_of

WAVEFORMS = [name for name in toys.ENCODERS if name != "whisper"]


# Features -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_log_mel_of_a_padded_window_equals_transformers_extractor(num_mel_bins):
    clip = toys.clips(48_001)[0]
    extractor = WhisperFeatureExtractor(feature_size=num_mel_bins)
    theirs = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[0]
    padded = torch.nn.functional.pad(clip, (0, 480_000 - len(clip)))
    torch.testing.assert_close(log_mel(padded, num_mel_bins), theirs, rtol=0, atol=1e-4)


def test_mel_bins_come_from_the_encoder_s_config():
    """Trap T16."""
    architecture = {**toy_encoder("whisper").architecture, "num_mel_bins": 128}
    config = EncoderConfig(architecture=architecture)
    assert features(config, toys.clips(1_600)).values.shape == (1, 128, 10)
    assert features(toy_encoder("whisper"), toys.clips(1_600)).values.shape == (1, 80, 10)


def test_each_clip_is_normalised_by_itself_before_padding():
    clips = [3 + 2 * toys.clips(4_000)[0], 0.1 * toys.clips(900, seed=1)[0]]
    values, lengths_B = features(toy_encoder("hubert_large"), clips)
    assert lengths_B.tolist() == [4_000, 900]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    for row, clip, length in zip(values, clips, lengths_B.tolist(), strict=True):
        theirs = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values[0]
        torch.testing.assert_close(row[:length], theirs, rtol=1e-4, atol=1e-4)
        assert row[:length].mean().item() == pytest.approx(0, abs=1e-4)
        assert row[:length].std(correction=0).item() == pytest.approx(1, abs=2e-2)
        assert not row[length:].any()


def test_group_norm_encoders_hear_the_raw_samples():
    clips = toys.clips(4_000, 900)
    values, _ = features(toy_encoder("hubert"), clips)
    assert torch.equal(values[0], clips[0])
    assert torch.equal(values[1, :900], clips[1])


@pytest.mark.parametrize("name", toys.ENCODERS)
def test_silence_and_a_single_sample_give_finite_frames(name):
    encoder = encoder_of(name)
    frames_BTE, _ = encoder(features(encoder.config, [torch.zeros(5_000), torch.ones(1)]))
    assert torch.isfinite(frames_BTE).all()


# Frames -------------------------------------------------------------------------------------------


def test_a_full_window_gives_the_frames_of_the_stock_whisper_encoder():
    encoder = encoder_of("whisper_full")
    heard = features(encoder.config, toys.clips(33_000))
    assert heard.values.shape == (1, 80, 3000)
    stock = WhisperModel.from_pretrained(toys.encoder_folder("whisper")).get_encoder().eval()
    with torch.no_grad():
        theirs = stock(heard.values).last_hidden_state
    frames_BTE, lengths_B = encoder(heard)
    assert lengths_B.tolist() == [103]
    torch.testing.assert_close(frames_BTE, theirs[:, :103], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WAVEFORMS)
def test_an_unpadded_clip_gives_the_frames_of_the_stock_model(name):
    encoder = encoder_of(name)
    heard = features(encoder.config, toys.clips(20_000))
    stock = AutoModel.from_pretrained(toys.encoder_folder(name)).eval()
    with torch.no_grad():
        theirs = stock(heard.values).last_hidden_state
    torch.testing.assert_close(encoder(heard)[0], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["hubert_large", "wavlm_large"])
def test_a_padded_batch_gives_the_frames_of_the_stock_model_with_its_mask(name):
    encoder = encoder_of(name)
    heard = features(encoder.config, toys.clips(20_000, 9_000))
    mask = (torch.arange(20_000)[None] < heard.lengths_B[:, None]).long()
    stock = AutoModel.from_pretrained(toys.encoder_folder(name)).eval()
    with torch.no_grad():
        theirs = stock(heard.values, attention_mask=mask).last_hidden_state
    frames_BTE, lengths_B = encoder(heard)
    for row, their_row, length in zip(frames_BTE, theirs, lengths_B.tolist(), strict=True):
        torch.testing.assert_close(row[:length], their_row[:length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", toys.ENCODERS)
def test_hidden_states_are_those_of_transformers_and_the_last_is_the_model_s_output(name):
    window = {"window": "full"} if name == "whisper" else {}
    config = toy_encoder(name, layers=(0, 1, 2, -1), **window)
    encoder = load_encoder(config)
    encoder.freeze()
    heard = features(config, toys.clips(9_000))
    stock = AutoModel.from_pretrained(toys.encoder_folder(name)).eval()
    stock = stock.get_encoder() if name == "whisper" else stock
    with torch.no_grad():
        theirs = stock(heard.values, output_hidden_states=True)
    frames_BTE, lengths_B = encoder(heard)
    T = int(lengths_B[0])
    parts = frames_BTE.split(32, dim=-1)
    assert len(parts) == 4
    for part, state in zip(parts[:2], theirs.hidden_states, strict=False):
        torch.testing.assert_close(part, state[:, :T], rtol=1e-4, atol=1e-5)
    for part in parts[2:]:
        torch.testing.assert_close(part, theirs.last_hidden_state[:, :T], rtol=1e-4, atol=1e-5)
    assert resolve((0, -1), 2) == [0, 2]


def test_no_hidden_state_is_kept_that_was_not_asked_for():
    encoder = encoder_of("hubert")
    heard = features(encoder.config, toys.clips(2_000))
    states = encoder.hidden_states(heard, torch.tensor([5]))
    assert len(states) == 1
    assert not any(layer._forward_pre_hooks for layer in encoder.model.encoder.layers)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    pool=st.sampled_from([(1, 1), (2, 1), (5, 1), (5, 2), (5, 3), (4, 4)]),
)
@settings(max_examples=20)
def test_pooling_is_the_plain_average_of_each_group_s_own_frames(lengths, pool):
    size, keep = pool
    torch.manual_seed(0)
    frames_BTE = torch.randn(len(lengths), max(lengths), 3)
    pooled, pooled_B = average_pool(frames_BTE, torch.tensor(lengths), size, keep)
    for row, frames, length in zip(pooled, frames_BTE, lengths, strict=True):
        groups = [
            frames[group * size // keep : min(length, -(-(group + 1) * size // keep))].mean(0)
            for group in range(-(-length * keep // size))
        ]
        torch.testing.assert_close(row[: len(groups)], torch.stack(groups), rtol=1e-4, atol=1e-5)
    assert pooled_B.tolist() == [-(-n * keep // size) for n in lengths]


# Frozen and trained -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", toys.ENCODERS)
def test_a_frozen_encoder_is_deterministic_after_train(name):
    """HuBERT's defaults are LayerDrop, dropout and SpecAugment in training mode (trap T11)."""
    encoder = load_encoder(toy_encoder(name))
    encoder.freeze()
    heard = features(encoder.config, toys.clips(9_000))
    before = encoder(heard)[0]
    outer = torch.nn.Sequential(encoder).train()
    assert outer.training
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(heard)[0], before)
    assert torch.equal(encoder(heard)[0], before)
    assert not before.requires_grad


def test_the_stock_hubert_is_not_deterministic_in_training_mode():
    """What the test above holds against."""
    stock = AutoModel.from_pretrained(toys.encoder_folder("hubert")).train()
    heard = features(toy_encoder("hubert"), toys.clips(9_000))
    first, second = (stock(heard.values).last_hidden_state for _ in range(2))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("name", toys.ENCODERS)
def test_an_unfrozen_encoder_trains_every_weight_but_its_constants(name):
    config = toy_encoder(name, layers=(0, -1))
    encoder = load_encoder(config)
    encoder.freeze()
    encoder.freeze(False)
    encoder.train()
    assert encoder.training
    for _ in range(4):  # LayerDrop, if it were on, would leave a hidden state or a gradient out
        frames_BTE, _ = encoder(features(config, toys.clips(9_000, 4_000)))
        (frames_BTE * torch.randn_like(frames_BTE)).sum().backward()
        frozen = [n for n, p in encoder.model.named_parameters() if not p.requires_grad]
        assert frozen == [encoder.constant] * bool(encoder.constant)
        toys.assert_gradients(encoder.model, zero=toys.UNSEEN)
        encoder.zero_grad()


# Loading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["whisper", "hubert_large"])
def test_a_renamed_encoder_weight_is_refused_and_named(name, tmp_path):
    refuses_renamed(Path(toys.encoder_folder(name)), tmp_path, "layers.1.final_layer_norm.weight")


def test_a_renamed_weight_of_the_real_whisper_is_refused_and_named(shared, tmp_path):
    refuses_renamed(shared / "models/whisper-tiny.en", tmp_path, "layers.3.fc1.weight")


def refuses_renamed(source: Path, folder: Path, ending: str) -> None:
    weights = load_file(source / "model.safetensors")
    (key,) = [name for name in weights if name.endswith(f"encoder.{ending}")]
    weights[key.replace("weight", "wieght")] = weights.pop(key)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text((source / "config.json").read_text())
    config = EncoderConfig(architecture=architecture_of(str(folder)), source=str(folder))
    with pytest.raises(CheckpointError) as error:
        load_encoder(config)
    assert ending in str(error.value)
    assert ending.replace("weight", "wieght") in str(error.value)


def test_weights_of_another_shape_than_the_config_says_are_refused_and_named():
    config = toy_encoder("whisper")
    wider = {**config.architecture, "encoder_ffn_dim": 50}
    with pytest.raises(CheckpointError, match=r"of another shape.*fc1.weight"):
        load_encoder(EncoderConfig(architecture=wider, source=config.source))


def test_every_family_has_its_class():
    assert {values["model_type"] for values in toys.ENCODERS.values()} == set(ENCODERS)
