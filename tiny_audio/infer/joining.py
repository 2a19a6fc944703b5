"""Two windows that share a second of audio become one text, which keeps its words once.

Where the words are decides, not which words they are: "one" and "the" stand in every text. What
may go is bounded by what the second can hold; where nothing shows that a word stands in both, both
windows keep all they wrote: a word too many is seen, a word too few is not.
"""

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from .results import Segment, Word

WORDS_PER_S = 5.0  # the most that are said; speech has 2.5 on average, hurried speech 4
SAME_S = 0.3  # two windows put one word within this time of each other
Words = Sequence[Word]


class Run(NamedTuple):
    """A run of words that both segments have: where it begins in the tail, where in the head, and
    how many words it has.
    """

    tail: int
    head: int
    size: int


def join(before: Segment, after: Segment, overlap_s: float) -> tuple[Segment, Segment]:
    """Part two segments that share `overlap_s` of audio, so that no word stands in both.

    The cut is in the middle of a run of words on which they agree there. Where they agree on none,
    the times of words decide, if these are known.
    """
    most = max(1, math.ceil(WORDS_PER_S * overlap_s))
    tail, head = before.words[-most:], after.words[:most]
    start_s, end_s = before.end_s - overlap_s, before.end_s
    timed = all(word.start_s is not None for word in (*tail, *head))
    if timed:
        tail = tuple(word for word in tail if _end(word) > start_s)
        head = tuple(word for word in head if _start(word) < end_s)
    middle_s = (start_s + end_s) / 2
    kept, first = len(tail), 0
    if run := _longest(tail, head, _near if timed else _alike, most):
        half = (run.size + 1) // 2
        kept, first = run.tail + half, run.head + half
    elif timed:
        kept, first = _by_time(tail, head, middle_s)
    num_kept = len(before.words) - len(tail) + kept
    return (
        replace(_with_words(before, before.words[:num_kept]), end_s=middle_s),
        replace(_with_words(after, after.words[first:]), start_s=middle_s),
    )


def _longest(tail: Words, head: Words, same: Callable[[Word, Word], bool], most: int) -> Run | None:
    """Find the longest run of words that are the same; of runs of one length, the one around which
    the fewest words are lost.

    A tail ends and a head begins with words that were cut in two. More of them than the run is long
    mean that the run is an accident, so such a run does not count, nor one with which more would go
    than was said.
    """
    found = list[tuple[int, int, Run]]()
    for at in range(len(tail)):
        for first in range(len(head)):
            size = 0
            while at + size < len(tail) and first + size < len(head):
                if not same(tail[at + size], head[first + size]):
                    break
                size += 1
            around = len(tail) - at - size + first
            if around <= size and 0 < size + around <= most:
                found.append((-size, around, Run(at, first, size)))
    return min(found)[2] if found else None


def _by_time(tail: Words, head: Words, middle_s: float) -> tuple[int, int]:
    """Return how many words of the tail stay, and how many of the head go. A word before the middle
    is taken from the tail, a later one from the head. A word stays although it is on the other side
    if the other segment has none at its time, or has lost the same word.
    """
    kept = sum(_start(word) < middle_s for word in tail)
    first = sum(_start(word) < middle_s for word in head)
    for number, word in enumerate(tail):
        met = any(_meet(word, other) for other in head[first:])
        if not met or any(_alike(word, other) for other in head[:first]):
            kept = max(kept, number + 1)
    alone = [n for n, word in enumerate(head) if not any(_meet(word, o) for o in tail[:kept])]
    return kept, min([first, *alone])


def _alike(one: Word, other: Word) -> bool:
    """Tell whether two words are the same but for case and punctuation."""
    return _spelling(one.text) == _spelling(other.text)


def _near(one: Word, other: Word) -> bool:
    """Tell whether two words are the same and stand at the same time."""
    apart_s = (_start(one) + _end(one) - _start(other) - _end(other)) / 2
    return _alike(one, other) and abs(apart_s) <= SAME_S


def _meet(one: Word, other: Word) -> bool:
    return _start(one) < _end(other) and _start(other) < _end(one)


def _spelling(text: str) -> str:
    return text.strip(string.punctuation).casefold() or text


def _start(word: Word) -> float:
    return -math.inf if word.start_s is None else word.start_s


def _end(word: Word) -> float:
    return math.inf if word.end_s is None else word.end_s


def _with_words(segment: Segment, words: tuple[Word, ...]) -> Segment:
    if len(words) == len(segment.words):
        return segment
    return replace(segment, words=words, text=" ".join(word.text for word in words))
