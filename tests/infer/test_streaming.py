"""Streams: a final word never changes, and what is final is what a file of the same sound gives."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_audio.infer.longform import CutPolicy
from tiny_audio.infer.pipes import read_sound
from tiny_audio.infer.streaming import Resampling, Streamer, events_of, resample
from tiny_audio.infer.transcriber import Request, Transcriber
from tiny_audio.model.errors import AudioError

RATE = 16_000


class Short(Transcriber):
    """A toy with short windows, so that a few seconds hold pauses, overlaps and silences."""

    policy = CutPolicy(1.0, pauses=((0.0, 0.35), (0.8, 0.1)), overlap_s=0.4, silence_s=0.5)


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(0)
    return Short(toys.toy_preset("nano").build())


@pytest.fixture(scope="module")
def sound():
    noise = toys.clips(int(1.9 * RATE))[0]
    noise[int(0.6 * RATE) : int(1.2 * RATE)] *= 1e-3
    return noise


def chunks(samples, sizes):
    at = 0
    for size in sizes:
        yield samples[at : at + size]
        at += size
    yield samples[at:]


def finals(streamer, blocks):
    return [event.segment for event in events_of(streamer, blocks) if event.final]


@pytest.mark.slow
@settings(deadline=None, max_examples=3)
@given(st.lists(st.integers(0, 12_000), max_size=30))
def test_finals_are_those_of_the_file_in_any_chunking(toy, sound, sizes):
    whole = toy.transcribe(sound, sampling_rate=RATE).segments
    streamed = finals(Streamer(toy, step_s=9), chunks(sound, sizes))
    assert [(s.start_s, s.end_s, s.text) for s in streamed] == [
        (s.start_s, s.end_s, s.text) for s in whole
    ]
    assert any(s.outcome != "no_speech" for s in whole)


def test_whole_windows_are_those_of_the_file(toy, sound):
    whole = toy.transcribe(sound, sampling_rate=RATE, whole=True).segments
    streamed = finals(Streamer(toy, request=Request(whole=True), step_s=9), [sound])
    assert [(s.start_s, s.end_s) for s in streamed] == [(s.start_s, s.end_s) for s in whole]
    paused = toy.transcribe(sound, sampling_rate=RATE).segments
    assert [s.end_s for s in paused] != [s.end_s for s in whole]


@pytest.mark.slow
def test_finals_follow_each_other_and_partials_begin_where_they_end(toy, sound):
    at, partials = 0.0, 0
    for event in events_of(Streamer(toy, step_s=0.5), sound.split(1_600)):
        assert event.segment.start_s == pytest.approx(at)
        if event.final:
            at = event.segment.end_s
        partials += not event.final
    assert at == pytest.approx(len(sound) / RATE)
    assert partials >= 2


@pytest.mark.slow
def test_from_one_state_a_stream_goes_on_twice(toy, sound):
    streamer = Streamer(toy, sampling_rate=44_100)
    _, state = streamer.feed(sound[:30_000], streamer.start())
    copy = replace(state, cutting=replace(state.cutting, held_N=state.cutting.held_N.clone()))
    first, after = streamer.feed(sound[30_000:], state)
    again, after_again = streamer.feed(sound[30_000:], copy)
    assert first == again
    assert streamer.finish(after)[0] == streamer.finish(after_again)[0]


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_resampled_in_pieces_is_resampled_at_once(rate):
    samples = toys.clips(rate + 77)[0]
    whole = soxr.resample(samples.numpy(), rate, RATE, "HQ")
    state, pieces = Resampling(torch.empty(0)), []
    for block in samples.split(rate // 40 + 3):  # 25 ms one by one would give 16,120 a second
        piece, state = resample(block, state, rate)
        pieces.append(piece)
        assert len(state.held_N) < rate / 4
    pieces.append(resample(torch.empty(0), state, rate, last=True)[0])
    np.testing.assert_allclose(torch.cat(pieces).numpy(), whole, atol=1e-6)


def test_silence_and_an_empty_stream_say_nothing(toy):
    assert finals(Streamer(toy), []) == []
    events = list(events_of(Streamer(toy), torch.zeros(3 * RATE).split(4_000)))
    assert all(event.final and event.segment.outcome == "no_speech" for event in events)


def test_damaged_samples_are_refused(toy):
    streamer = Streamer(toy)
    with pytest.raises(AudioError, match="NaN"):
        streamer.feed(torch.full((800,), torch.nan), streamer.start())


class Trickle(io.BytesIO):
    """A pipe that gives at most some bytes at once."""

    def read(self, size=-1):
        return super().read(min(size, 333))


@pytest.mark.parametrize("header", [True, False])
def test_pipes_are_read_raw_or_with_a_header(header):
    samples = (np.arange(5_000) % 200 * 100).astype(np.int16)
    made = io.BytesIO()
    if header:
        soundfile.write(made, samples, 8_000, "PCM_16", format="WAV")
    data = made.getvalue() if header else samples.tobytes()
    rate, blocks = read_sound(Trickle(data), 16_000, [])
    assert rate == (8_000 if header else 16_000)
    assert np.array_equal(np.concatenate(list(blocks)), samples)


def test_a_pipe_of_another_kind_is_refused():
    made = io.BytesIO()
    soundfile.write(made, np.zeros((100, 2)), 8_000, "PCM_24", format="WAV")
    with pytest.raises(AudioError, match="2 channel"):
        read_sound(io.BytesIO(made.getvalue()), 16_000, [])
    with pytest.raises(AudioError, match="without samples"):
        read_sound(io.BytesIO(made.getvalue()[:20]), 16_000, [])


class OnlyForward(io.RawIOBase):
    """A pipe: it cannot go back, and gives what has arrived."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size=-1):
        return self.inner.read(min(size, 700))

    def seekable(self):
        return False


@pytest.mark.parametrize("container", ["mp3", "ogg", "opus", "flac", "aiff", "webm", "mkv"])
def test_a_file_in_a_pipe_is_decoded_while_it_arrives(container):
    pytest.importorskip("av")
    from model.splices import clip

    from tiny_audio.model.audio import load_audio

    data = clip(container, 2.1, 24_000)
    rate, blocks = read_sound(OnlyForward(data), 8_000, notes := [])
    samples = torch.cat(list(blocks))
    assert rate == 16_000
    assert not notes
    assert len(samples) == pytest.approx(len(load_audio(data).samples), abs=1_600)
    assert samples.abs().max() > 0.1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        ("Grüße an alle.\n".encode() * 40, "not audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not audio"),
        (b"PK\x03\x04" + bytes(99), "not audio"),
        (b"\0\0\0\x18ftypM4A " + bytes(3000), "mov that cannot be read"),
    ],
)
def test_what_is_no_sound_in_a_pipe_is_refused(data, words):
    pytest.importorskip("av")
    with pytest.raises(AudioError, match=words):
        list(read_sound(OnlyForward(data), 16_000, [])[1])
