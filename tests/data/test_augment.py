import numpy as np
import pytest

from tiny_audio.data import augment as a


def rng():
    return np.random.default_rng(0)


def tone(num_samples, hz=440.0):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(num_samples) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("num_samples", [400, 1601, 16_000, 31_999])
def test_all_but_speed_and_silence_keep_the_length(num_samples):
    samples = tone(num_samples)
    for changed in (
        a.add_room(samples, rng()),
        a.limit_band(samples, rng()),
        a.add_noise(samples, rng(), 10.0),
        a.set_level(samples, -20.0),
    ):
        assert changed.shape == samples.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_divides_the_length(factor):
    assert abs(len(a.change_speed(tone(16_000), factor)) - 16_000 / factor) <= 1


def test_silence_adds_what_it_says():
    assert len(a.pad_with_silence(tone(16_000), 0.1, 0.25)) == 16_000 + 1_600 + 4_000


def test_noise_has_the_asked_ratio():
    samples = tone(16_000)
    noise = a.add_noise(samples, rng(), 10.0) - samples
    ratio = 10 * np.log10(np.square(samples).mean() / np.square(noise).mean())
    assert abs(ratio - 10.0) < 0.1


def test_the_level_is_met_and_nothing_clips():
    level = 20 * np.log10(np.sqrt(np.square(a.set_level(tone(16_000), -25.0)).mean()))
    assert abs(level + 25.0) < 0.1
    assert np.abs(a.set_level(tone(16_000), 20.0)).max() <= 0.99


def test_the_telephone_takes_the_bass():
    telephone = next(g for g in map(np.random.default_rng, range(50)) if g.random() < 0.4)
    telephone = np.random.default_rng(telephone.bit_generator.seed_seq.entropy)
    assert np.square(a.limit_band(tone(16_000, 100.0), telephone)).mean() < 1e-4


def test_augmentation_is_a_function_of_its_seed():
    how = a.Augment(speed=1.0, room=1.0, band=1.0, noise=1.0)
    once, again = (a.augment(tone(16_000), rng(), how) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_the_codec_keeps_loud_and_quiet_alike():
    """Companding: the noise is 35 to 40 dB below the sound, loud or quiet (G.711)."""
    for level in (0.9, 0.1, 0.02):
        sent = level * tone(16_000) / 0.3
        noise = a.telephone_codec(sent) - sent
        ratio_db = 10 * np.log10(np.square(sent).mean() / np.square(noise).mean())
        assert 28 < ratio_db < 42
