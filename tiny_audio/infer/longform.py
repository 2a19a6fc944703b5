"""Cutting sound of any length into windows that a model takes: in pauses, or with an overlap.

`push` takes blocks and gives windows as soon as they are known; what it remembers is a value, so a
file and a live stream are cut at the same samples however they arrive. Nothing is left out: every
sample lies in a window.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.encoder import EncoderConfig

HOP = SAMPLE_RATE // 20  # levels are measured, and windows cut, every 50 ms
FRAME = SAMPLE_RATE // 100
HISTORY_HOPS = 300  # loud and quiet mean: of the last 15 s
# A hop is quiet 35 dB below the loudest one; in noise, 6 dB above the floor will do, if that is
# still 15 dB below the loudest. Below -80 dB of full scale, the last two of 16 bits, all is quiet.
QUIET_DB, FLOOR_DB, SNR_DB = 35.0, 6.0, 15.0
SILENT_DB = -80.0
# Encoders without a limit of their own (HuBERT) still get windows of this length.
DEFAULT_WINDOW_S = 30.0
# Levels are those of what lies above 100 Hz: a constant, the hum of mains and rumble lie below it
# and hid every pause. The filter is a Butterworth of second order; after a hop nothing is left of
# what went through it (1e-9), so a hop needs the hop before it and no other state.
HIGH_PASS_HZ = 100.0


class Window(NamedTuple):
    """Consecutive samples of a file, where they begin, and how many the window before had too.

    In a `quiet` one nothing rose above the pauses: there is no speech in it.
    """

    start: int
    samples_N: Tensor
    overlap: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class CutPolicy:
    """The rules by which windows end; docs/decisions/019 says how they were measured."""

    longest_s: float
    # From (this many seconds on, so much silence) ends a window; a stop consonant is below 0.1 s.
    pauses: tuple[tuple[float, float], ...] = ((0.0, 0.35), (2.5, 0.2), (5.0, 0.1))
    overlap_s: float = 1.0  # where there is neither
    search_share: float = 0.4  # the last part of a longest window, searched for those
    dip_s: float = 0.1  # and there so much silence will do
    silence_s: float = 1.5  # before the first word: from here on a window of its own,
    lead_s: float = 0.2  # but for the last of it

    def pause(self, num_hops: int) -> int:
        """Return how many hops of silence end a window of this length."""
        return next(hops(p) for start, p in self.pauses[::-1] if num_hops >= hops(start))

    def without_pauses(self) -> "CutPolicy":
        """Return rules by which windows are as long as they may be, ended by a late pause only."""
        return replace(self, pauses=((0.0, 1e6),))

    @property
    def longest(self) -> int:
        """Return the longest window in hops."""
        return max(2, int(self.longest_s * SAMPLE_RATE / HOP))


def policy_of(encoder: EncoderConfig) -> CutPolicy:
    """Return how long audio is cut for an encoder."""
    longest = encoder.max_samples
    return CutPolicy(longest / SAMPLE_RATE if longest else DEFAULT_WINDOW_S)


@dataclass(frozen=True)
class Cutting:
    """The state between two blocks: the samples of the open window and the levels that led here."""

    start: int = 0
    held_N: Tensor = field(default_factory=lambda: torch.empty(0))
    overlap: int = 0
    before_N: Tensor = field(default_factory=lambda: torch.empty(0))  # the hop before `held_N`
    levels: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    quiet: tuple[bool, ...] = ()  # of every measured hop of `held_N`

    @property
    def end(self) -> int:
        """Return how many samples have come."""
        return self.start + len(self.held_N)


def push(block_N: Tensor, state: Cutting, policy: CutPolicy) -> tuple[list[Window], Cutting]:
    """Take more samples; return the windows that have ended. The value given is left as it was."""
    state = replace(state, held_N=torch.cat([state.held_N, block_N]))
    windows: list[Window] = []
    measured = len(state.quiet) * HOP
    before_N = state.held_N[measured - HOP : measured] if measured else state.before_N
    fresh = hop_levels(state.held_N[measured:], before_N)
    for level in fresh:
        levels = np.append(state.levels[-HISTORY_HOPS + 1 :], level)
        quiet = (*state.quiet, bool(level < quiet_below(levels)))
        state = replace(state, levels=levels, quiet=quiet)
        if found := window_end(quiet, levels, policy):
            end, overlap = found
            samples_N = state.held_N[: end * HOP]
            windows.append(Window(state.start, samples_N, state.overlap, all(quiet[:end])))
            first = end - overlap
            state = Cutting(
                state.start + first * HOP,
                state.held_N[first * HOP :],
                overlap * HOP,
                state.held_N[(first - 1) * HOP : first * HOP],
                levels,
                quiet[first:],
            )
    # A view would keep all blocks alive, and a window's samples are never needed again.
    return windows, replace(state, held_N=state.held_N.clone(), before_N=state.before_N.clone())


def finish(state: Cutting) -> list[Window]:
    """Return the rest of an ended stream."""
    if len(state.held_N) <= state.overlap:
        return []
    is_rest = state.start > 0 or bool(state.quiet)  # and not a file of less than a hop
    return [Window(state.start, state.held_N, state.overlap, is_rest and all(state.quiet))]


def cut(blocks: Iterable[Tensor], policy: CutPolicy) -> Iterator[Window]:
    """Cut blocks of samples into windows that cover every sample."""
    state = Cutting()
    for block in blocks:
        windows, state = push(block, state, policy)
        yield from windows
    yield from finish(state)


def hop_levels(samples_N: Tensor, before_N: Tensor) -> NDArray[np.float32]:
    """Return the level of every whole hop above `HIGH_PASS_HZ`: its loudest 10 ms, in dB.

    `before_N` is the hop before; at the start of a file, where there is none, its first sample is
    taken to have been there all along.
    """
    num_hops = len(samples_N) // HOP
    if not num_hops:
        return np.empty(0, np.float32)
    if not len(before_N):
        before_N = samples_N[:1].expand(HOP)
    joined_N = torch.cat([before_N, samples_N[: num_hops * HOP]]).double()
    blocks = np.fft.rfft(joined_N.unfold(0, 2 * HOP, HOP).numpy())
    passed = np.fft.irfft(blocks * HIGH_PASS)[:, HOP:]
    power = np.square(passed.reshape(num_hops, HOP // FRAME, FRAME)).mean(-1)
    levels = 10 * np.log10(np.maximum(power, 1e-10)).max(axis=1)
    return levels.round(3).astype(np.float32)  # the same in whatever blocks the samples came


def _high_pass(hz: float) -> NDArray[np.complex128]:
    """Return the factors for two hops, in frequency: the response of a high-pass to an impulse
    within one hop, so that the second of the two is as if all had been filtered from the start.
    """
    k = math.tan(math.pi * hz / SAMPLE_RATE)
    scale = 1 / (1 + math.sqrt(2) * k + k * k)
    b0, a1, a2 = scale, 2 * (k * k - 1) * scale, (1 - math.sqrt(2) * k + k * k) * scale
    response = np.zeros(2 * HOP)
    for n, given in enumerate((b0, -2 * b0, b0)):
        response[n] = given
    for n in range(HOP):
        response[n] -= sum(a * response[n - m] for m, a in ((1, a1), (2, a2)) if n >= m)
    made: NDArray[np.complex128] = np.fft.rfft(response)
    return made


HIGH_PASS = _high_pass(HIGH_PASS_HZ)


def quiet_below(levels: NDArray[np.float32]) -> float:
    """Return the level below which a hop is a pause; the hops around it decide."""
    loudest = float(levels.max())
    floor = float(np.partition(levels, len(levels) // 10)[len(levels) // 10])
    return max(SILENT_DB, loudest - QUIET_DB, min(floor + FLOOR_DB, loudest - SNR_DB))


def window_end(
    quiet: tuple[bool, ...], levels: NDArray[np.float32], policy: CutPolicy
) -> tuple[int, int] | None:
    """Return where the window ends now that its last hop is known: (end, overlap) or None."""
    pause = policy.pause(len(quiet))
    if all(quiet[-pause:]) and len(quiet) >= pause and not all(quiet):
        return len(quiet) - 1, 0  # the silence stays behind what was said
    lead = hops(policy.lead_s)
    if all(quiet[:-1]) and not quiet[-1] and len(quiet) > hops(policy.silence_s):
        return len(quiet) - 1 - lead, 0
    if len(quiet) < policy.longest:
        return None
    return (len(quiet), 0) if all(quiet) else forced_end(quiet, levels, policy)


def forced_end(
    quiet: tuple[bool, ...], levels: NDArray[np.float32], policy: CutPolicy
) -> tuple[int, int]:
    """Return where a longest window ends: in its last long dip, else in an overlap."""
    first = int(len(quiet) * (1 - policy.search_share))
    pause = min(policy.pause(len(quiet)), hops(policy.dip_s))
    for end in range(len(quiet), first, -1):
        dip = end - pause
        if dip >= first and all(quiet[dip:end]):
            return (dip + end) // 2, 0
    half = min(hops(policy.overlap_s) // 2, (len(quiet) - first) // 4)
    searched = levels[-(len(quiet) - first) :]
    quietest = first + half + int(searched[half : len(searched) - half].argmin())
    return quietest + half, 2 * half


def hops(seconds: float) -> int:
    """Return the whole hops of a duration."""
    return round(seconds * SAMPLE_RATE / HOP)
