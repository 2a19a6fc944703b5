"""Windows: they cover everything, end in pauses, and come out the same however samples arrive."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_audio.infer.longform import (
    FRAME,
    HIGH_PASS_HZ,
    HOP,
    CutPolicy,
    Cutting,
    Window,
    cut,
    finish,
    hop_levels,
    push,
)

RATE = 16_000
POLICY = CutPolicy(10.0)


def speech(seconds, level=0.3):
    """A tone whose loudness goes up and down four times a second, as that of syllables does."""
    t = torch.arange(int(seconds * RATE)) / RATE
    return level * (0.55 - 0.45 * torch.cos(t * 8 * torch.pi)) * torch.sin(t * 1200)


def steady(seconds, level=0.3):
    return level * torch.sin(torch.arange(int(seconds * RATE)) / 5)


def pause(seconds, level=0.0):
    return level * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(0))


def parts():
    kind = st.sampled_from([speech, steady, pause])
    part = st.tuples(kind, st.floats(0.05, 7)).map(lambda made: made[0](made[1]))
    return st.lists(part, min_size=1, max_size=5).map(torch.cat)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(parts(), st.lists(st.integers(1, 60_000), max_size=20), st.floats(1, 4))
def test_windows_cover_every_sample_in_any_chunking_and_none_is_too_long(samples, sizes, longest):
    policy = CutPolicy(longest)
    sizes = [size for size in sizes if size]
    chunks, at = [], 0
    for size in sizes:
        chunks.append(samples[at : at + size])
        at += size
    whole = list(cut([samples], policy))
    parted = list(cut([*chunks, samples[at:]], policy))
    assert [(w.start, w.overlap) for w in whole] == [(w.start, w.overlap) for w in parted]
    fresh = [window.samples_N[window.overlap :] for window in whole]
    assert torch.equal(torch.cat(fresh), samples)
    ends = [window.start + len(window.samples_N) for window in whole]
    assert [w.start + w.overlap for w in whole] == [0, *ends[:-1]]
    assert all(0 < len(w.samples_N) <= max(longest * RATE, 2 * HOP) for w in whole)


def test_a_window_ends_in_the_middle_of_a_pause_also_in_noise():
    for noise in (0.0, 0.005):
        samples = torch.cat([speech(2.5), pause(0.8), speech(2.5)]) + pause(5.8, noise)
        first, second = cut([samples], POLICY)
        assert 2.5 * RATE < len(first.samples_N) < 3.3 * RATE
        assert (second.start, second.overlap) == (len(first.samples_N), 0)


def low(kind, seconds):
    """What lies below speech: a constant of 3 %, mains at 50 Hz, rumble at 20 Hz."""
    t = torch.arange(int(seconds * RATE)) / RATE
    hertz = {"hum": 50, "rumble": 20}.get(kind)
    return 0.03 + 0 * t if hertz is None else 0.1 * torch.sin(2 * torch.pi * hertz * t)


@pytest.mark.parametrize("kind", ["DC", "hum", "rumble"])
def test_what_lies_below_speech_hides_no_pause(kind):
    samples = torch.cat([pause(1.0), *[speech(2.5), pause(0.8)] * 3])
    clean = list(cut([samples], POLICY))
    dirty = list(cut([samples + low(kind, len(samples) / RATE)], POLICY))
    assert len(clean) == 4
    assert [w.quiet for w in dirty] == [w.quiet for w in clean]
    for one, other in zip(clean, dirty, strict=True):
        assert abs(one.start - other.start) <= 2 * HOP
        assert one.overlap == other.overlap == 0


def test_levels_are_those_of_a_filter_that_saw_all_samples():
    samples = speech(3) + low("rumble", 3)
    k = math.tan(math.pi * HIGH_PASS_HZ / RATE)
    scale = 1 / (1 + math.sqrt(2) * k + k * k)
    a1, a2 = 2 * (k * k - 1) * scale, (1 - math.sqrt(2) * k + k * k) * scale
    first = float(samples[0])
    x1 = x2 = first
    y1 = y2 = 0.0
    passed = []
    for x in samples.tolist():
        y = scale * (x - 2 * x1 + x2) - a1 * y1 - a2 * y2
        x1, x2, y1, y2 = x, x1, y, y1
        passed.append(y)
    frames = np.square(np.array(passed)).reshape(-1, HOP // FRAME, FRAME).mean(-1).max(1)
    expected = 10 * np.log10(np.maximum(frames, 1e-10))
    assert np.abs(hop_levels(samples, torch.empty(0)) - expected).max() < 2e-3
    rest = hop_levels(samples[10 * HOP :], samples[9 * HOP : 10 * HOP])
    assert np.array_equal(rest, hop_levels(samples, torch.empty(0))[10:])


def test_a_long_silence_is_a_window_of_its_own():
    windows = list(cut([torch.cat([speech(2), pause(5), speech(2)])], POLICY))
    assert [w.quiet for w in windows] == [False, True, False]
    assert windows[1].samples_N.abs().max() == 0
    assert 0.1 * RATE < int((windows[2].samples_N.abs() > 0.01).nonzero()[0]) < 0.3 * RATE


def test_without_a_pause_windows_overlap_and_a_short_dip_is_enough_not_to():
    windows = list(cut([steady(25)], POLICY))
    assert all(window.overlap == RATE for window in windows[1:])
    dipped = torch.cat([steady(8), pause(0.2), steady(8)])
    assert [window.overlap for window in cut([dipped], POLICY)] == [0, 0]


def test_whole_windows_end_in_a_pause_of_their_last_part():
    spoken = torch.cat([speech(3), pause(2), speech(2), pause(1), speech(7), pause(0.5), speech(4)])
    windows = list(cut([spoken], POLICY.without_pauses()))
    assert [window.overlap for window in windows] == [0, 0, 0]
    assert 7 * RATE < len(windows[0].samples_N) < 8 * RATE
    assert 15 * RATE < windows[2].start < 15.5 * RATE


def test_what_is_remembered_is_a_value_and_does_not_grow():
    state = Cutting()
    for block in speech(60).split(RATE):
        before, copy = state, replace(state, held_N=state.held_N.clone())
        first, state = push(block, before, POLICY)
        again, _ = push(block, before, POLICY)
        assert [w.start for w in first] == [w.start for w in again]
        assert torch.equal(before.held_N, copy.held_N)
        assert len(state.held_N) <= 11 * RATE
        assert state.held_N.untyped_storage().nbytes() <= 4 * 11 * RATE
    assert finish(state)


def test_a_stream_that_ends_inside_its_overlap_gives_no_window_twice():
    (windows, state) = push(steady(10), Cutting(), POLICY)
    assert windows
    assert state.overlap == RATE
    assert (
        finish(state)
        == [Window(state.start, state.held_N, state.overlap)][: len(state.held_N) > RATE]
    )
