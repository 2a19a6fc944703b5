"""What two windows heard twice is kept once, and no word that only one of them wrote is lost."""

import math
from dataclasses import replace

import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.infer.jobs import Job
from tiny_audio.infer.joining import WORDS_PER_S, join
from tiny_audio.infer.longform import Window
from tiny_audio.infer.results import Segment, Timings, Word
from tiny_audio.model.audio import load_audio


def heard(text, start_s, end_s, times=False):
    words = text.split()
    step = (end_s - start_s) / max(1, len(words))
    at = [start_s + n * step for n in range(len(words))]
    made = [
        Word(w, t, t + step, 1.0) if times else Word(w, None, None, 1.0)
        for w, t in zip(words, at, strict=True)
    ]
    return Segment(start_s, end_s, text, "ok", -0.1, tuple(made))


# A common word away from the seam cuts nothing.
ACCIDENTS = [
    ("count one of them and then", "he took one and two"),
    ("the first of all things were", "and so the second"),
    ("five six seven eight", "nine five ten"),
]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("one two three four", "three four five", ("one two three", "four five")),
        ("one two three fo", "three four five", ("one two three", "four five")),
        ("one two three four", "our five six", ("one two three four", "our five six")),
        ("the end of the", "of the road", ("the end of", "the road")),
        ("", "of the road", ("", "of the road")),
        *((before, after, (before, after)) for before, after in ACCIDENTS),
    ],
)
def test_words_that_both_windows_heard_are_kept_once(before, after, kept):
    made = join(heard(before, 0, 10), heard(after, 9, 19), 1.0)
    assert tuple(segment.text for segment in made) == kept
    assert [(segment.start_s, segment.end_s) for segment in made] == [(0, 9.5), (9.5, 19)]


def test_where_texts_differ_the_times_of_words_decide():
    before, after = heard("a b c d e f g h i j", 0, 10, True), heard("k l m n", 9, 11, True)
    first, second = join(before, after, 1.0)
    assert (first.text, second.text) == ("a b c d e f g h i j", "l m n")


WORDS = st.lists(st.sampled_from("one the two a Three, four".split()), max_size=25).map(" ".join)


@given(WORDS, WORDS, st.floats(0.05, 3), st.booleans(), st.booleans())
def test_no_more_goes_than_the_overlap_can_hold(before, after, overlap_s, timed, times):
    first, second = heard(before, 0, 10, timed), heard(after, 10 - overlap_s, 20, times)
    made = join(first, second, overlap_s)
    kept, rest = (
        [word for segment in one for word in segment.words] for one in ((made[0],), (made[1],))
    )
    assert tuple(kept) == first.words[: len(kept)]
    assert tuple(rest) == second.words[len(second.words) - len(rest) :]
    gone = len(first.words) + len(second.words) - len(kept) - len(rest)
    assert gone <= math.ceil(WORDS_PER_S * overlap_s)
    assert [" ".join(w.text for w in one.words) for one in made] == [one.text for one in made]


@given(WORDS, st.lists(st.sampled_from("u v w".split()), max_size=20).map(" ".join))
def test_texts_without_a_common_word_keep_all(before, after):
    made = join(heard(before, 0, 10), heard(after, 9, 19), 1.0)
    assert (made[0].text, made[1].text) == (before, after)


@given(st.integers(0, 20), st.integers(1, 4), st.integers(0, 20), st.booleans())
def test_what_both_heard_is_there_once(num_before, num_both, num_after, timed):
    """Also where the word that each of them heard in part is wrong."""
    words = [f"w{n}" for n in range(num_before + num_both + num_after)]
    first = [*words[: num_before + num_both], *(["hal"] if num_both > 1 else [])]
    second = words[num_before:]
    step = 1 / max(1, len(first) - num_before)
    one = heard(" ".join(first), 9 - num_before * step, 10, timed)
    two = heard(" ".join(second), 9, 9 + len(second) * step, timed)
    made = join(one, two, 1.0)
    assert f"{made[0].text} {made[1].text}".split() == words


def test_a_word_at_whose_time_the_other_heard_nothing_stays():
    before = Segment(0, 10, "a b", "ok", None, (Word("a", 8, 8.5, 1), Word("b", 9.6, 9.9, 1)))
    after = Segment(9, 19, "c d", "ok", None, (Word("c", 9.1, 9.4, 1), Word("d", 11, 12, 1)))
    first, second = join(before, after, 1.0)
    assert (first.text, second.text) == ("a b", "c d")


def test_a_word_that_each_puts_into_the_half_of_the_other_stays():
    before = Segment(0, 10, "a b", "ok", None, (Word("a", 9, 9.5, 1), Word("b", 9.5, 10, 1)))
    after = Segment(9, 19, "b c", "ok", None, (Word("b", 9, 9.5, 1), Word("c", 9.5, 10, 1)))
    first, second = join(before, after, 1.0)
    assert (first.text, second.text) == ("a b", "c")


def test_a_file_is_joined_by_times_that_its_words_do_not_keep():
    """By their places the first "one" of the second window would be the last of the first."""
    windows = [Window(0, torch.zeros(160_000)), Window(144_000, torch.zeros(160_000), 16_000)]
    texts = [("a b one", 7, 9.4), ("one two", 9.5, 11)]
    plain = [heard(text, n * 9, n * 9 + 10) for n, (text, _, _) in enumerate(texts)]
    timed = {id(one): heard(*each, True).words for one, each in zip(plain, texts, strict=True)}
    jobs = [Job("x"), Job("x", timed=lambda window, one: replace(one, words=timed[id(one)]))]
    for job in jobs:
        for window, segment in zip(windows, plain, strict=True):
            job.take(window, segment, Timings())
    by_place, by_time = ([one.text for one in job.segments] for job in jobs)
    assert by_place == ["a b one", "two"]
    assert by_time == ["a b one", "one two"]
    words = [word for one in jobs[1].segments for word in one.words]
    assert words == [word for one in plain for word in one.words]


@pytest.mark.slow
def test_nano_times_the_words_of_a_window(nano):
    path, _ = toys.samples()[0]
    samples_N = load_audio(path).samples
    (segment,) = nano.transcribe_windows([Window(16_000, samples_N)])
    timed = nano.timed(Window(16_000, samples_N), segment)
    assert [word.text for word in timed.words] == segment.text.split()
    assert all(1.0 <= word.start_s < word.end_s for word in timed.words)
    assert all(word.start_s is None for word in segment.words)
