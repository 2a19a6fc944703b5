"""Saying who spoke: stretches of like voices are one speaker, and every word gets its speaker.

Pairs of groups are joined while the mean similarity of their stretches is high enough (average
linkage on cosines), most similar first. A group is kept as the sum of its vectors, from which the
mean similarity of two groups follows: `sum · sum / (count × count)`. Long audio is joined in
blocks until few groups are left, so time and memory grow with its length and not with its square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

import numpy as np
import torch
from numpy.typing import NDArray

from .results import Segment, Transcript, Word
from .voices import Voice

Floats = NDArray[np.float64]

# Measured with `benchmarks/speakers.py` on speakers that are not those of its figures.
LEAST_LIKE = 0.60  # mean similarity of two groups of one speaker
LEAST_SPOKEN = 0.5  # share of a stretch that words must fill, to be joined with others
LEAST_STRETCHES = 3  # of a speaker; what is less is given to the most similar one
BLOCK = 400
PAUSE_S = 1.0  # ends an utterance
NEAR_S = 0.3  # deviation of the weights of stretches around a word, by their middles


@dataclass(frozen=True)
class Utterance:
    """Words that one speaker says without a long pause."""

    speaker: str
    start_s: float
    end_s: float
    text: str


def with_speakers(
    transcript: Transcript,
    voices: Sequence[Voice],
    num_speakers: int | None = None,
    least: float = LEAST_LIKE,
) -> Transcript:
    """Return the transcript with a speaker for every word: A is who speaks first, then B.

    `voices` are those of the transcript's source in order; without `num_speakers` their number is
    found.
    """
    if not voices or not any(word.start_s is not None for word in transcript.words):
        return transcript
    times_M2 = np.array([(voice.start_s, voice.end_s) for voice in voices])
    vectors_MD = torch.stack([voice.vector_D for voice in voices]).double().numpy()
    near = [Near.of(segment, times_M2) for segment in transcript.segments]
    spoken_M = np.zeros(len(voices))
    for each in near:
        spoken_M[each.place] += each.shared_NM.sum(0)
    enough_M = spoken_M >= LEAST_SPOKEN * (times_M2[:, 1] - times_M2[:, 0])
    centres_KD = centres(
        vectors_MD[enough_M] if enough_M.any() else vectors_MD, num_speakers, least
    )
    likest = [(each.weights_NM @ vectors_MD[each.place] @ centres_KD.T).argmax(1) for each in near]
    names = named(np.concatenate(likest).tolist())
    found, segments = iter(names), list[Segment]()
    for segment in transcript.segments:
        words = [w if w.start_s is None else replace(w, speaker=next(found)) for w in segment.words]
        segments.append(replace(segment, words=tuple(filled(words, names[0]))))
    return replace(transcript, segments=tuple(segments))


@dataclass(frozen=True)
class Near:
    """The N timed words of a segment and the M stretches around them, `place` of all."""

    place: slice
    shared_NM: Floats  # seconds of a word in a stretch
    weights_NM: Floats  # of a stretch for a word: those count most that have it in their middle

    @classmethod
    def of(cls, segment: Segment, times_M2: Floats) -> Near:
        """Return the stretches that reach into a segment."""
        spans = [(w.start_s, w.end_s) for w in segment.words if w.start_s is not None]
        first = int(np.searchsorted(times_M2[:, 1], segment.start_s, "right"))
        after = int(np.searchsorted(times_M2[:, 0], segment.end_s))
        words_N2, times_M2 = np.array(spans, float).reshape(-1, 2), times_M2[first:after]
        start_NM = np.maximum(words_N2[:, None, 0], times_M2[None, :, 0])
        end_NM = np.minimum(words_N2[:, None, 1], times_M2[None, :, 1])
        shared_NM = np.maximum(0.0, end_NM - start_NM)
        apart_NM = np.abs(words_N2.mean(1)[:, None] - times_M2.mean(1))
        return cls(slice(first, after), shared_NM, np.exp(-0.5 * (apart_NM / NEAR_S) ** 2))


def filled(words: list[Word], otherwise: str) -> list[Word]:
    """Give words without a time the speaker of the word before, else of the one after."""
    speaker = next((word.speaker for word in words if word.speaker), otherwise)
    made = list[Word]()
    for word in words:
        speaker = word.speaker or speaker
        made.append(replace(word, speaker=speaker))
    return made


def named(numbers: Sequence[int]) -> list[str]:
    """Return letters for numbers, in the order in which these come first."""
    order = list(dict.fromkeys(numbers))
    return [letters(order.index(number)) for number in numbers]


def letters(number: int) -> str:
    """Return A for 0, Z for 25, AA for 26."""
    rest, last = divmod(number, len(ascii_uppercase))
    return (letters(rest - 1) if rest else "") + ascii_uppercase[last]


def utterances(transcript: Transcript, pause_s: float = PAUSE_S) -> list[Utterance]:
    """Return who says what, in order. Words without a time do not change where one begins or
    ends.
    """
    runs = list[tuple[str, list[Word], float, float]]()
    for segment in transcript.segments:
        for word in segment.words:
            start_s = segment.start_s if word.start_s is None else word.start_s
            end_s = start_s if word.end_s is None else word.end_s
            speaker = word.speaker or "A"
            if runs and runs[-1][0] == speaker and start_s - runs[-1][3] <= pause_s:
                _, words, first_s, last_s = runs[-1]
                runs[-1] = speaker, [*words, word], first_s, max(last_s, end_s)
            else:
                runs.append((speaker, [word], start_s, end_s))
    return [
        Utterance(speaker, start_s, end_s, " ".join(w.text for w in words))
        for speaker, words, start_s, end_s in runs
    ]


# Groups ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Groups:
    """The sums of the groups' vectors and how many each has."""

    sums_KD: Floats
    counts_K: Floats

    def __len__(self) -> int:
        return len(self.counts_K)

    def some(self, chosen: NDArray[np.bool_] | slice) -> Groups:
        return Groups(self.sums_KD[chosen], self.counts_K[chosen])

    @property
    def directions(self) -> Floats:
        """Return the mean vector of every group, with length 1."""
        return self.sums_KD / np.linalg.norm(self.sums_KD, axis=1, keepdims=True)


def centres(vectors_MD: Floats, num_speakers: int | None, least: float) -> Floats:
    """Return the directions (K, D) of the speakers' voices."""
    groups = Groups(vectors_MD, np.ones(len(vectors_MD)))
    while len(groups) > BLOCK:
        starts = range(0, len(groups), BLOCK)
        blocks = [groups.some(slice(at, at + BLOCK)) for at in starts]
        halves = [joined(block, -1.0, (len(block) + 1) // 2) for block in blocks]
        groups = Groups(
            np.concatenate([half.sums_KD for half in halves]),
            np.concatenate([half.counts_K for half in halves]),
        )
    found = joined(groups, least)
    large = found.some(found.counts_K >= LEAST_STRETCHES)
    if num_speakers is None:
        return (large if len(large) else joined(groups, -1.0)).directions
    # Small groups are stretches with two voices: they must not be taken for a speaker.
    enough = large if len(large) >= num_speakers else groups
    return joined(enough, -1.0, num_speakers).directions


def joined(groups: Groups, least: float, most: int = 1) -> Groups:
    """Join the most similar groups, as long as they are similar enough and more than `most`."""
    sums_KD, counts_K = groups.sums_KD.copy(), groups.counts_K.copy()
    alike_KK = (sums_KD @ sums_KD.T) / np.outer(counts_K, counts_K)
    np.fill_diagonal(alike_KK, -np.inf)
    there_K = np.ones(len(counts_K), bool)
    for _ in range(len(counts_K) - most):
        kept, gone = divmod(int(alike_KK.argmax()), len(counts_K))
        if alike_KK[kept, gone] < least:
            break
        sums_KD[kept] += sums_KD[gone]
        counts_K[kept] += counts_K[gone]
        there_K[gone] = False
        alike_K = sums_KD @ sums_KD[kept] / (counts_K * counts_K[kept])
        alike_K[kept] = -np.inf
        alike_KK[kept] = alike_KK[:, kept] = np.where(there_K, alike_K, -np.inf)
        alike_KK[gone] = alike_KK[:, gone] = -np.inf
    return Groups(sums_KD, counts_K).some(there_K)
