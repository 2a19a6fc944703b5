"""Conditions do what their names say, the same way every time, and are kept with every answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
import toys

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.evaluate.evaluator import RunConfig
from tiny_audio.evaluate.grid import run_grid, show_grid
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.rivals import system
from tiny_audio.evaluate.robustness import GRID, condition, degraded, through_codec
from tiny_audio.model.errors import ConfigError

SOURCE = SourceConfig(path=str(toys.REPOSITORY / "samples" / "manifest.jsonl"))


def sample(seconds=4.0):
    times = np.arange(round(seconds * 16_000)) / 16_000
    tones = sum(np.sin(2 * np.pi * hz * times) for hz in (100, 1000, 6000))
    return (0.1 * tones).astype(np.float32)


def made(name, samples=None, seed=3):
    return condition(name)(sample() if samples is None else samples, np.random.default_rng(seed))


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db", [20, 0, -5])
def test_noise_has_its_power_and_its_colour(colour, snr_db):
    noise = made(f"noise:{colour}@{snr_db}dB") - sample()
    found = 10 * np.log10(np.square(sample()).mean() / np.square(noise).mean())
    assert found == pytest.approx(snr_db, abs=0.1)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1 / 16_000)
    low, high = (power[(hz > a) & (hz < 2 * a)].mean() for a in (500, 4000))
    # Eight times the frequency: as loud, an eighth, a sixty-fourth (flattened a little at 50 Hz).
    assert low / high == pytest.approx({"white": 1, "pink": 8, "brown": 64}[colour], rel=0.2)


def level(samples, hz):
    times = np.arange(len(samples)) / 16_000
    return abs((samples * np.exp(-2j * np.pi * hz * times)).mean()) * 2


def test_bands_keep_what_they_name():
    telephone, wide = made("band:telephone"), made("band:0-7000Hz")
    assert level(telephone, 1000) == pytest.approx(0.1, rel=0.05)
    assert max(level(telephone, 100), level(telephone, 6000)) < 0.002
    assert min(level(wide, 100), level(wide, 1000)) == pytest.approx(0.1, rel=0.05)


def test_speed_changes_length_and_pitch():
    fast = made("speed:1.25")
    assert len(fast) == pytest.approx(len(sample()) / 1.25, abs=2)
    assert level(fast, 1250) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("name", ["mulaw", "mp3", "vorbis", "opus"])
def test_codecs_change_little_and_keep_the_length(name):
    clip = sample(1.0)
    heard = through_codec(clip, name)
    assert heard.shape == clip.shape
    assert level(heard, 1000) == pytest.approx(0.1, rel=0.1)
    assert not np.array_equal(heard, clip)


@pytest.mark.parametrize(
    "name",
    "noise:green@10dB noise:pink noise:pink@10 speed:0 speed:x speed:9 band:9-3Hz band:x codec:gsm "
    "loud clean:1 noise".split(),
)
def test_conditions_that_are_none_are_refused(name):
    with pytest.raises(ConfigError, match="No condition"):
        condition(name)


@pytest.mark.slow
def test_clips_are_made_worse_alike_every_time_and_each_with_its_own_seed():
    clips = read_source("x", SOURCE, Limits(), Dropped())
    first, second = (degraded(clips, SOURCE, "noise:pink@10dB", 42) for _ in range(2))
    other = degraded(clips, SOURCE, "noise:pink@10dB", 43)
    for one, again, another, clip in zip(first, second, other, clips, strict=True):
        samples = one.sound.samples()
        assert np.array_equal(samples, again.sound.samples())
        assert not np.array_equal(samples, another.sound.samples())
        seed = one.columns["degraded_seed"]
        by_hand = made("noise:pink@10dB", clip.sound.samples(), seed)
        assert np.array_equal(samples, by_hand)
        assert one.columns["condition"] == "noise:pink@10dB"
        assert one.sound.digest() not in (clip.sound.digest(), another.sound.digest())
    assert len({one.columns["degraded_seed"] for one in first}) == len(clips)
    slow = degraded(clips, SOURCE, "speed:0.8", 42)[0]
    assert slow.duration_s == pytest.approx(len(slow.sound.samples()) / 16_000, abs=0.01)


@pytest.fixture(scope="module")
def nano():
    return system("nano")


@pytest.mark.slow
def test_a_grid_is_a_run_a_condition_and_one_table(nano, tmp_path):
    config = RunConfig(name="samples", source=SOURCE, max_samples=4, normalizer="plain")
    grid = run_grid(nano, config, ["noise:white@-10dB"], tmp_path)
    clean, noisy = grid["rows"]
    assert (clean["condition"], noisy["condition"]) == ("clean", "noise:white@-10dB")
    assert clean["worse"]["rate"] == 0
    assert noisy["wer"]["rate"] > clean["wer"]["rate"]
    assert noisy["worse"]["rate"] == pytest.approx(noisy["wer"]["rate"] - clean["wer"]["rate"])
    assert noisy["worse"]["low"] <= noisy["worse"]["rate"] <= noisy["worse"]["high"]
    rows = read_predictions(tmp_path / "noise-white--10dB" / "predictions.jsonl")
    assert {row.columns["condition"] for row in rows} == {"noise:white@-10dB"}
    assert all(isinstance(row.columns["degraded_seed"], int) for row in rows)
    assert json.loads((tmp_path / "grid.json").read_text())["rows"] == grid["rows"]
    assert show_grid(grid).row_count == 2
    result = json.loads((tmp_path / "clean" / "result.json").read_text())
    assert result["normalizer"] == normalizer("plain").to_dict()
    assert run_grid(nano, config, ["noise:white@-10dB"], tmp_path)["rows"] == grid["rows"]
    with pytest.raises(ConfigError, match="another run"):
        run_grid(nano, replace(config, seed=1), ["clean"], tmp_path)


def test_every_condition_of_the_grid_can_be_made():
    assert len(GRID) == len(set(GRID)) == 17
    assert all(made(name).dtype == np.float32 for name in GRID)
