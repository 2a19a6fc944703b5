"""Files after public reports of users: what `../shared/data/reports/README.md` says is right.

Sentence A and sentence B are the two halves of `two.flac`; where they lie in a file is measured by
correlation, so no model is needed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("av")

from tiny_audio.infer.pipes import read_sound
from tiny_audio.model.audio import SAMPLE_RATE, load_audio

NUM_A = 79_920  # samples of sentence A
# File -> where A and B begin in seconds (None: it is not in there), and words of its notes.
EXPECTED = {
    "two.flac": (0.0, 5.0, ()),
    "rate_change.mp3": (0.0, 5.0, ("44100 to 48000 Hz",)),
    "rate_change24.mp3": (0.0, 5.0, ("44100 to 24000 Hz",)),
    "joined.au": (0.0, 5.0, ("another recording",)),
    "joined.m4a": (0.0, 5.0, ("another recording",)),
    "chained.ogg": (0.0, 5.0, ("another recording",)),
    "wrapped.wav": (0.0, None, ("announces 1.00 s, but 5.00 s are there",)),
    "au_short.au": (0.0, None, ("announces 1.00 s, but 5.00 s are there",)),
    "zero.wav": (0.0, None, ("announces 0.00 s, but 5.00 s are there",)),
    "afinfo.wav": (0.0, None, ("announces 0.00 s, but 5.00 s are there",)),
    "late_audio.mp4": (4.0, None, ("begins 3.94 s after",)),
    "gap.mkv": (0.0, 11.0, ("s without packets",)),
    "id3_two.mp3": (0.0, None, ()),
    "zeros_first.mp3": (0.0, None, ()),
    "free_first.m4a": (0.0, None, ()),
    "stream.mp3": (0.0, None, ()),
    "stream.webm": (0.0, None, ()),
    "a.amr": (0.0, None, ()),
    "alac.caf": (0.0, None, ()),
    "opus.caf": (0.0, None, ()),
    "x.avi": (0.0, None, ()),
    "x.wma": (0.0, None, ()),
    "x.ts": (0.0, None, ()),
}


@pytest.fixture(scope="module")
def reports(shared: Path) -> Path:
    folder = shared / "data/reports"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="module")
def sentences(reports: Path) -> tuple[torch.Tensor, torch.Tensor]:
    both = load_audio(reports / "two.flac").samples
    return both[:NUM_A], both[NUM_A:]


def found_s(sentence: torch.Tensor, samples: torch.Tensor) -> float | None:
    """Where a sentence lies in a file; None where nothing is like it."""
    size = len(sentence) + len(samples)
    spectrum = torch.fft.rfft(samples, size) * torch.fft.rfft(sentence, size).conj()
    likeness = torch.fft.irfft(spectrum, size)
    at = int(likeness.argmax())
    alike = likeness[at] / (sentence.norm() * samples[at : at + len(sentence)].norm() + 1e-9)
    return at / SAMPLE_RATE if alike > 0.3 else None  # AMR keeps half of it


@pytest.mark.parametrize("name", EXPECTED)
def test_a_report_is_read_as_is_right(
    name: str, reports: Path, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    a_s, b_s, words = EXPECTED[name]
    audio = load_audio(reports / name)
    for sentence, right_s in zip(sentences, (a_s, b_s), strict=True):
        place_s = found_s(sentence, audio.samples)
        assert place_s == (None if right_s is None else pytest.approx(right_s, abs=0.3)), name
    assert len(audio.notes) == len(words), audio.notes
    assert all(text in note for text, note in zip(words, audio.notes, strict=True)), audio.notes


def test_the_second_track_speaks(
    reports: Path, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    first = load_audio(reports / "two_tracks.mp4")
    assert not first.samples.any()
    assert "2 audio tracks" in first.notes[0]
    assert (
        found_s(sentences[0], load_audio(reports / "two_tracks.mp4", track=2).samples) is not None
    )


@pytest.mark.parametrize("name", ["stream.mp3", "stream.webm", "chained.ogg", "two.flac"])
def test_a_file_in_a_pipe_is_decoded_as_it_comes(
    name: str, reports: Path, sentences: tuple[torch.Tensor, torch.Tensor]
) -> None:
    with (reports / name).open("rb") as pipe:
        rate, blocks = read_sound(pipe, 8_000, [])
        samples = torch.cat(list(blocks))
    assert rate == SAMPLE_RATE
    assert found_s(sentences[0], samples) == pytest.approx(0, abs=0.1)
    whole = load_audio(reports / name)
    assert len(samples) == pytest.approx(len(whole.samples), abs=0.1 * SAMPLE_RATE)
