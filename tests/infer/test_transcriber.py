"""Whole files: windows cover everything, batches change nothing, endings are reported."""

import itertools

import pytest
import soundfile
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from jiwer import wer

from tiny_audio.infer.results import Segment, Transcript
from tiny_audio.infer.transcriber import Transcriber, Window, cut, quiet_place
from tiny_audio.model.errors import AudioError

RATE = 16_000


@pytest.fixture(scope="module")
def transcriber():
    torch.manual_seed(0)  # of the fresh projector
    return Transcriber(toys.toy_preset("nano").build())


@settings(deadline=None, max_examples=60)
@given(
    blocks=st.lists(st.integers(0, 5_000), max_size=12),
    longest=st.integers(1, 9_000),
)
def test_windows_cover_every_sample_once_and_none_is_too_long(blocks, longest):
    samples = torch.arange(sum(blocks), dtype=torch.float32)
    windows = list(cut(samples.split(blocks) if blocks else [], longest))
    assert torch.equal(torch.cat([torch.empty(0), *(w.samples_N for w in windows)]), samples)
    assert all(0 < len(w.samples_N) <= longest for w in windows)
    ends = itertools.accumulate(len(w.samples_N) for w in windows)
    assert [w.start for w in windows] == [0, *ends][: len(windows)]


def test_a_window_is_cut_in_the_pause():
    speech = torch.sin(torch.arange(10 * RATE) / 5)
    speech[int(7.5 * RATE) : int(7.9 * RATE)] = 0
    assert 7.5 * RATE < quiet_place(speech, 10 * RATE) < 7.9 * RATE


def test_windows_in_a_batch_give_what_each_gives_alone(transcriber):
    clips = toys.clips(16_000, 40_000, 7_000)
    windows = [Window(0, clip) for clip in clips]
    together = transcriber.write(windows)
    assert [w.tokens for w in together] == [transcriber.write([w])[0].tokens for w in windows]


def test_path_bytes_and_tensor_give_the_same_transcript(transcriber, tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, toys.clips(20_000)[0].numpy(), RATE)
    samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    texts = [
        transcriber.transcribe(path).text,
        transcriber.transcribe(path.read_bytes()).text,
        transcriber.transcribe(samples, sampling_rate=RATE).text,
    ]
    assert len(set(texts)) == 1


def test_segments_of_a_long_file_follow_each_other_to_its_end(transcriber):
    limit = transcriber.model.config.encoder.max_samples
    clip = toys.clips(limit * 2 + 12_345)[0]
    transcript = transcriber.transcribe(clip, sampling_rate=RATE)
    ends = [segment.end_s for segment in transcript.segments]
    assert [segment.start_s for segment in transcript.segments] == [0.0, *ends[:-1]]
    assert transcript.duration_s == pytest.approx(len(clip) / RATE)


def test_a_random_model_that_does_not_stop_is_said_to_be_cut_off_or_looping(transcriber):
    transcript = transcriber.transcribe(toys.clips(16_000)[0], sampling_rate=RATE)
    assert not transcript.complete
    assert transcript.outcome in ("cut_off", "loop")


def test_an_empty_source_is_an_error_not_an_empty_text(transcriber):
    with pytest.raises(AudioError):
        transcriber.transcribe(torch.empty(0), sampling_rate=RATE)


def test_outcome_tells_the_worst_and_no_speech_apart():
    def transcript(*outcomes):
        said = {"ok": "a", "loop": "b", "cut_off": "c", "no_speech": ""}
        segments = (Segment(0.0, 1.0, said[o], o, None) for o in outcomes)
        return Transcript("x", 1.0, tuple(segments))

    assert transcript("no_speech").outcome == "no_speech"
    assert transcript("no_speech", "ok").outcome == "ok"
    assert transcript("ok", "cut_off", "ok").outcome == "cut_off"
    assert transcript("cut_off", "loop").outcome == "loop"
    assert transcript("ok", "no_speech").complete
    assert not transcript("loop").complete


def test_nano_writes_its_sample_clips():
    nano = Transcriber.from_pretrained("nano")
    samples = toys.samples()
    assert samples, "samples/manifest.jsonl lists no clip"
    for path, text in samples:
        assert nano.transcribe(path).text == text


def test_nano_writes_a_long_file_in_order():
    """Sample clips one after the other with pauses: several windows, every sentence in its place.

    20.5 % WER when the weights were packed; it writes windows of several sentences less well.
    """
    samples = toys.samples()
    clips = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path, _ in samples]
    pause = torch.zeros(int(0.8 * RATE))
    joined = torch.cat([part for clip in clips for part in (clip, pause)])
    transcript = Transcriber.from_pretrained("nano").transcribe(joined, sampling_rate=RATE)
    assert len(transcript.segments) > 1
    said = " ".join(text for _, text in samples)
    assert wer(said, transcript.text) <= 0.25
    assert transcript.complete


def test_nano_finds_no_speech_in_silence():
    silence = torch.zeros(2 * RATE)
    transcript = Transcriber.from_pretrained("nano").transcribe(silence, sampling_rate=RATE)
    assert (transcript.text, transcript.outcome) == ("", "no_speech")
