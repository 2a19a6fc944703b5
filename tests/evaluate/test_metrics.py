import random

import jiwer
import numpy as np
import pytest
from evaluate.predicted import scored

from tiny_audio.evaluate import metrics
from tiny_audio.evaluate.metrics import Counts, align, count, total
from tiny_audio.evaluate.result import scores

# reference, hypothesis, substituted, deleted, inserted, words said — counted by hand
BY_HAND = [
    ("the cat sat on the mat", "the cat sat on the mat", 0, 0, 0, 6),
    ("the cat sat on the mat", "the cat sit on mat", 1, 1, 0, 6),
    ("turn on the light", "turn off the lights please", 2, 0, 1, 4),
    ("one two three", "", 0, 3, 0, 3),
    ("", "thank you", 0, 0, 2, 0),
    ("", "", 0, 0, 0, 0),
    ("a b c d", "b c d e", 0, 1, 1, 4),
    ("yes", "no no no no", 1, 0, 3, 1),
    ("four", None, 0, 1, 0, 1),
]
WORDS = "the a cat dog sat ran on in mat house seven five tree".split()


def random_pairs(num, seed=0):
    """Sentences with words left out, exchanged and added; a tenth of either side is empty."""
    rng, pairs = random.Random(seed), []
    for _ in range(num):
        ref = [rng.choice(WORDS) for _ in range(rng.randrange(1, 15))]
        hyp = [w if rng.random() < 0.8 else rng.choice(WORDS) for w in ref if rng.random() < 0.9]
        hyp += [rng.choice(WORDS) for _ in range(rng.choice([0, 0, 0, 1, 4]))]
        ref, hyp = (" ".join(side) if rng.random() > 0.1 else "" for side in (ref, hyp))
        pairs.append((ref, hyp))
    return pairs


@pytest.mark.parametrize(("ref", "hyp", "s", "d", "i", "n"), BY_HAND)
def test_counts_of_a_table_made_by_hand(ref, hyp, s, d, i, n):
    (one,) = scored((ref, hyp))
    assert one.words == Counts(s, d, i, n)


def test_the_table_as_a_corpus():
    found = scores(scored(*(row[:2] for row in BY_HAND)))
    assert found["wer"]["rate"] == (4 + 6 + 7) / 25
    assert [found["wer"][key] for key in Counts._fields] == [4, 6, 7, 25]
    assert (found["clips"], found["failed"]) == (9, 1)
    assert found["answered"]["wer"] == (4 + 5 + 7) / 24


def test_words_characters_and_kinds_of_errors_agree_with_jiwer():
    pairs = random_pairs(1000)
    table, (refs, hyps) = scored(*pairs), zip(*pairs, strict=True)
    assert sum(not ref for ref in refs) > 50
    assert sum(not hyp for hyp in hyps) > 50
    for unit, process in (("words", jiwer.process_words), ("chars", jiwer.process_characters)):
        theirs = process(list(refs), list(hyps))
        ours = total(getattr(one, unit) for one in table)
        assert ours[:3] == (theirs.substitutions, theirs.deletions, theirs.insertions)
        assert ours.rate == (theirs.wer if unit == "words" else theirs.cer)
        for one in table:
            alone = process(one.ref, one.hyp)
            counts = getattr(one, unit)
            assert counts[:3] == (alone.substitutions, alone.deletions, alone.insertions)
            assert counts.length == alone.hits + alone.substitutions + alone.deletions


def test_what_is_written_where_nothing_is_said_is_inserted():
    silent, spoken = scored(("", "thank you")), scored(("one two", "one two"), ("", "thank you"))
    assert scores(silent)["wer"]["rate"] is None
    assert scores(silent)["wer"]["insertions"] == 2
    assert scores(spoken)["wer"]["rate"] == 1.0


@pytest.mark.parametrize("hyp", ["one two three", "one too three", "", "two"])
def test_failing_is_never_better_than_an_answer_without_insertions(hyp):
    answered = scored(("a b", "a b"), ("one two three", hyp))
    failed = scored(("a b", "a b"), ("one two three", None))
    rate = total(one.words for one in failed).rate
    assert rate == 3 / 5
    assert rate >= total(one.words for one in answered).rate


def test_an_alignment_has_the_edits_that_are_counted():
    for ref, hyp in random_pairs(200, seed=1):
        edits = align(ref.split(), hyp.split())
        kinds = [edit.kind for edit in edits]
        assert [e.ref for e in edits if e.ref] == ref.split()
        assert [e.hyp for e in edits if e.hyp] == hyp.split()
        found = (kinds.count(kind) for kind in ("replace", "delete", "insert"))
        assert Counts(*found, len(ref.split())) == count(ref.split(), hyp.split())
        assert all((e.ref == e.hyp) == (e.kind == "equal") for e in edits)


def test_any_symbols_can_be_words():
    assert count([1, "1", (2,)], [1, "one", (2,)]) == Counts(1, 0, 0, 3)


# Intervals --------------------------------------------------------------------------------------


def counts_of(num, rate, seed):
    rng = np.random.default_rng(seed)
    return [Counts(int(rng.binomial(n, rate)), 0, 0, n) for n in rng.integers(1, 20, num).tolist()]


def test_an_interval_is_that_of_resampling_one_by_one(monkeypatch):
    monkeypatch.setattr(metrics, "NUM_RESAMPLES", 300)
    counts = counts_of(40, 0.2, 0)
    rng = np.random.default_rng(7)
    rates = []
    for _ in range(300):
        drawn = [counts[n] for n in rng.integers(40, size=40)]
        rates.append(total(drawn).rate)
    expected = np.quantile(rates, [0.025, 0.975])
    assert metrics.interval(counts, seed=7) == pytest.approx(expected, abs=1e-12)
    assert metrics.interval(counts, seed=7) != metrics.interval(counts, seed=8)


def test_intervals_hold_the_true_rate_as_often_as_they_say():
    found = [metrics.interval(counts_of(60, 0.2, seed)) for seed in range(200)]
    assert 0.88 < np.mean([low <= 0.2 <= high for low, high in found]) <= 0.99


def test_pairs_that_err_alike_differ_surely():
    a = counts_of(100, 0.3, 0)
    b = [Counts(min(one.length, one.substitutions + 1), 0, 0, one.length) for one in a]
    low, high = metrics.difference(a, b)
    assert -0.2 < low < high < 0
    alone = [metrics.interval(side) for side in (a, b)]
    assert alone[0].high - alone[0].low > high - low


@pytest.mark.parametrize("counts", [[], [Counts(1, 0, 0, 5)], [Counts(0, 0, 3, 0)] * 4])
def test_without_words_or_with_one_clip_there_is_no_interval(counts):
    assert metrics.interval(counts) is None


def test_word_errors_are_counted_over_the_corpus():
    score = metrics.word_errors(["one two three", ""], ["one too three", "noise"])
    assert score["words"] == 3
    assert (score["substitutions"], score["deletions"], score["insertions"]) == (1, 0, 1)
    assert score["wer"] == 2 / 3
