"""Hum is taken out of what is transcribed, and nothing else is changed."""

import numpy as np
import pytest
import torch
import toys

from tiny_audio.infer.hum import LOUD_DB, hum_db, without_hum
from tiny_audio.infer.longform import Window
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import load_audio

RATE = 16_000
SAMPLE = toys.REPOSITORY / "samples" / "address-1961.flac"


def spoken(seconds: float = 4.0) -> torch.Tensor:
    return load_audio(SAMPLE).samples[: round(seconds * RATE)]


def tone(hertz: float, num_samples: int, amplitude: float = 0.045) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * hertz * torch.arange(num_samples) / RATE + 1)


@pytest.mark.parametrize("mains", [49.8, 50, 60, 60.2])
def test_hum_is_taken_out_and_speech_stays(mains):
    clean = spoken()
    hum = tone(mains, len(clean))
    cleared = without_hum(Window(7, clean + hum, 5))
    assert (cleared.start, cleared.overlap, cleared.quiet) == (7, 5, False)
    left = (cleared.samples_N - clean).square().mean()
    assert left < hum.square().mean() / 100
    assert hum_db(cleared.samples_N.double().numpy()) < LOUD_DB - 20


@pytest.mark.parametrize("hertz", [85, 110, 220])
def test_low_voices_and_clean_speech_are_left_bit_for_bit(hertz):
    clean = spoken()
    constants = (torch.zeros(RATE), torch.full((RATE,), 0.1))
    for samples_N in (clean, clean + tone(hertz, len(clean)), clean + 0.03, *constants):
        window = Window(0, samples_N)
        assert without_hum(window) is window


def test_windows_of_any_length_keep_their_length():
    for num_samples in (1, 2, 800, RATE):
        window = Window(0, tone(50, num_samples))
        assert len(without_hum(window).samples_N) == num_samples
        assert np.isfinite(without_hum(window).samples_N.numpy()).all()


def test_a_question_about_a_sound_gets_the_sound_as_it_is():
    nano = Transcriber(toys.toy_preset("nano").build())
    window = Window(0, spoken() + tone(50, 4 * RATE))
    assert nano.cleared([window], "What hums here?")[0] is window
    assert nano.cleared([window])[0] is not window
    made = nano.transcribe_windows([window])
    assert made == nano.transcribe_windows([without_hum(window)])
