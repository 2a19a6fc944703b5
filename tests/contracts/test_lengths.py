"""Lengths are computed once, from configuration alone, and every module keeps to them."""

import pytest
import torch
import toys
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pairs import encoder_of, toy_encoder

from tiny_audio.model.encoder import ENCODERS as FAMILIES
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import EncoderError
from tiny_audio.model.features import Features
from tiny_audio.model.projector import PROJECTORS, build_projector

WAVEFORMS = [name for name in toys.ENCODERS if name != "whisper"]


def stock_frames(name: str, values: torch.Tensor) -> int:
    """Frames that the stock convolutions make, untrimmed."""
    stock = encoder_of(name).model
    if name in WAVEFORMS:
        return stock.feature_extractor(values).shape[-1]
    return stock.conv2(stock.conv1(values)).shape[-1]


@pytest.mark.parametrize("name", toys.ENCODERS)
@settings(max_examples=8)
@given(num_samples=st.integers(1, 60_000))
@example(1)
@example(399)
@example(400)
@example(401)
@example(720)
@example(60_000)
def test_every_encoder_makes_exactly_the_frames_its_config_promises(name, num_samples):
    encoder = encoder_of(name)
    given_features = features(encoder.config, [torch.ones(num_samples)])
    promised = encoder.config.frames_for(num_samples)
    frames_BTE, lengths_B = encoder(given_features)
    assert frames_BTE.shape == (1, promised, encoder.config.width)
    assert lengths_B.tolist() == [promised]
    assert stock_frames(name, given_features.values) == promised


@pytest.mark.parametrize("num_samples", [1, 48_000, 59_999])
def test_a_full_window_computes_all_its_frames_and_passes_on_the_valid_ones(num_samples):
    encoder = encoder_of("whisper_full")
    given_features = features(encoder.config, [torch.ones(num_samples)])
    assert stock_frames("whisper_full", given_features.values) == 1500
    frames_BTE, lengths_B = encoder(given_features)
    promised = encoder.config.frames_for(num_samples)
    assert lengths_B.tolist() == [promised] == [frames_BTE.shape[1]]


@pytest.mark.parametrize("name", toys.ENCODERS)
def test_frames_of_every_length_equal_the_formula_of_transformers(name):
    config, stock = toy_encoder(name), encoder_of(name).model
    # Every length once; the front ends of the other families are the same seven convolutions.
    lengths = torch.arange(400, 60_001, 1 if name in ("hubert", "whisper") else 41)
    steps = lengths // 160 if name == "whisper" else lengths  # Whisper's follow its mel steps
    expected = stock._get_feat_extract_output_lengths(steps)
    assert [config.frames_for(n) for n in lengths.tolist()] == expected.tolist()
    assert {config.frames_for(n) for n in range(1, 400)} == {1}


def test_frames_of_whisper_follow_its_mel_steps_at_every_length():
    config, stock = toy_encoder("whisper"), encoder_of("whisper").model
    lengths = range(400, 60_001)
    steps = torch.tensor([n // 160 for n in lengths])
    expected = stock._get_feat_extract_output_lengths(steps)
    assert [config.frames_for(n) for n in lengths] == expected.tolist()
    assert {config.frames_for(n) for n in range(1, 400)} == {1}


@pytest.mark.parametrize("pool", [(1, 1), (5, 1), (5, 2)])
@pytest.mark.parametrize("name", ["whisper", "whisper_full", "hubert", "hubert_large"])
def test_pooled_frames_are_as_many_as_promised(name, pool):
    config = toy_encoder(name, pool=pool)
    encoder = FAMILIES[config.family].frames(config, encoder_of(name).model)
    encoder.freeze()
    clips = toys.clips(*([1, 33_333] if "full" in name else [1, 400, 1600, 2000, 2400, 33_333]))
    frames_BTE, lengths_B = encoder(features(config, clips))
    assert lengths_B.tolist() == [config.frames_for(len(clip)) for clip in clips]
    assert frames_BTE.shape[1] == max(lengths_B)


@pytest.mark.parametrize("kind", PROJECTORS)
@settings(max_examples=12)
@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=3))
@example([1])
@example([15, 16, 1])
def test_every_projector_makes_exactly_the_positions_its_config_promises(kind, lengths):
    config = toys.PROJECTORS[kind]
    torch.manual_seed(0)
    projector = build_projector(config, 8, 16).eval()
    with torch.no_grad():
        audio_BPD, positions_B = projector(
            torch.randn(len(lengths), max(lengths), 8), torch.tensor(lengths)
        )
        raw_BPD = projector.project(torch.ones(1, lengths[0], 8), torch.tensor(lengths[:1]))
    promised = [config.positions_for(n) for n in lengths]
    assert positions_B.tolist() == promised
    assert audio_BPD.shape == (len(lengths), max(promised), 16)
    assert raw_BPD.shape[1] == promised[0]  # before anything is trimmed
    for row, num in zip(audio_BPD, promised, strict=True):
        assert not row[num:].any()


@pytest.mark.parametrize("kind", PROJECTORS)
def test_positions_never_shrink_when_audio_grows_and_are_never_zero(kind):
    config = toys.PROJECTORS[kind]
    positions = [config.positions_for(n) for n in range(1, 1501)]
    assert positions[0] >= 1
    assert positions == sorted(positions)
    assert positions[-1] == pytest.approx(1500 / config.frames_per_position, abs=3)


@pytest.mark.parametrize("window", ["full", "true_length"])
def test_both_windows_of_whisper_promise_the_same_frames(window):
    config = toys.encoder_config("whisper", window=window)
    assert config.frames_for(48_000) == 150
    assert config.frames_for(480_000) == 1500
    with pytest.raises(EncoderError, match=r"480001 samples .* window of 30 s"):
        config.frames_for(480_001)


def test_a_clip_of_no_samples_is_refused():
    with pytest.raises(EncoderError, match="0 samples"):
        toy_encoder("hubert").frames_for(0)
    with pytest.raises(EncoderError, match="No clips"):
        features(toy_encoder("hubert"), [])


def test_a_batch_inside_a_clip_is_refused_and_its_shape_is_named():
    with pytest.raises(EncoderError, match=r"\(1, 48000\)"):
        features(toy_encoder("hubert"), [torch.zeros(1, 48_000)])


@pytest.mark.parametrize("name", ["whisper", "hubert_large"])
def test_an_encoder_that_makes_too_few_frames_is_refused(name):
    encoder = encoder_of(name)
    values, lengths_B = features(encoder.config, [torch.ones(16_000)])
    with pytest.raises(EncoderError, match="do not belong together"):
        encoder(Features(values, lengths_B + 8_000))
