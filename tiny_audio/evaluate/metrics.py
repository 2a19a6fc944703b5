"""Counting word and character error rates over the corpus, with their intervals.

    rate = (substitutions + deletions + insertions) / units of all references

The figure of a corpus is the ratio of sums, never the mean of utterance rates. A reference without
words has no rate of its own: what was written there are insertions of the corpus.

A clip without an answer counts all of its words as deleted, so a system gains nothing by failing;
`answered` gives the figures without such clips, beside how many they are. See
docs/decisions/011-a-failed-clip-has-all-its-words-deleted.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from tiny_audio.evaluate.normalize import Normalizer
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.model.errors import needing

with needing("Scoring", "eval"):
    from rapidfuzz.distance import Levenshtein

LEVEL, NUM_RESAMPLES, SEED = 0.95, 1000, 0


class Counts(NamedTuple):
    """The edits that turn the hypothesis into the reference, and the length of the reference."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0  # words or characters of the reference

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Return errors per unit of the reference; None where the reference is empty."""
        return self.errors / self.length if self.length else None


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts: that of a corpus, if each is that of an utterance."""
    return Counts(*(sum(column) for column in zip(Counts(), *counts, strict=True)))


class Edit(NamedTuple):
    """One step of an alignment; `ref` or `hyp` is "" for an insertion or a deletion."""

    kind: str  # equal, replace, delete or insert
    ref: str
    hyp: str


def _coded(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Return words as small numbers; equal words get equal numbers."""
    ids: dict[Hashable, int] = {}
    ref_ids, hyp_ids = ([ids.setdefault(unit, len(ids)) for unit in one] for one in (ref, hyp))
    return ref_ids, hyp_ids


def count(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> Counts:
    """Count the fewest edits between two sequences: lists of words, or strings of characters."""
    if ref == hyp:
        return Counts(length=len(ref))
    texts = isinstance(ref, str) and isinstance(hyp, str)
    units = (ref, hyp) if texts else _coded(ref, hyp)
    kinds = [op[0] for op in Levenshtein.editops(*units).as_list()]
    replaced, deleted, inserted = map(kinds.count, ("replace", "delete", "insert"))
    return Counts(replaced, deleted, inserted, len(ref))


def align(ref: Sequence[str], hyp: Sequence[str]) -> list[Edit]:
    """Put the words of both side by side, in the alignment that `count` counts."""
    edits = list[Edit]()
    for op in Levenshtein.opcodes(*_coded(ref, hyp)):
        ours, theirs = ref[op.src_start : op.src_end], hyp[op.dest_start : op.dest_end]
        edits += [Edit(op.tag, a, b) for a, b in zip_longest(ours, theirs, fillvalue="")]
    return edits


@dataclass(frozen=True)
class Utterance:
    """One clip, scored. `ref` and `hyp` are normalised; `hyp` is None where it failed."""

    prediction: Prediction
    ref: str
    hyp: str | None
    words: Counts
    chars: Counts


def utterances(predictions: Sequence[Prediction], normalizer: Normalizer) -> list[Utterance]:
    """Return the table that every figure of a corpus is made from."""
    texts = [text for p in predictions for text in (p.ref, p.hyp) if text is not None]
    normal = normalizer.all(texts)
    return [
        _utterance(one, normal[one.ref], None if one.hyp is None else normal[one.hyp])
        for one in predictions
    ]


def _utterance(prediction: Prediction, ref: str, hyp: str | None) -> Utterance:
    """Score one clip. Characters are counted with the spaces between words, as jiwer does."""
    written = hyp or ""
    words, chars = count(ref.split(), written.split()), count(ref, written)
    return Utterance(prediction, ref, hyp, words, chars)


class Interval(NamedTuple):
    low: float
    high: float


def interval(counts: Sequence[Counts], seed: int = SEED) -> Interval | None:
    """Return the bootstrap interval of the corpus rate: what other such clips might have given.

    Percentiles over resampled utterances; None where the references are empty, and of one clip,
    which says nothing of others.
    """
    errors, lengths = _columns(counts)
    rates = _rates(len(counts), [errors, lengths], seed)
    return _percentiles(rates)


def difference(a: Sequence[Counts], b: Sequence[Counts], seed: int = SEED) -> Interval | None:
    """Return the interval of rate(a) − rate(b) over the same utterances, drawn in pairs."""
    (errors_a, lengths), (errors_b, _) = _columns(a), _columns(b)
    return _percentiles(_rates(len(a), [errors_a - errors_b, lengths], seed))


def _columns(counts: Sequence[Counts]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(counts, dtype=np.int64).reshape(-1, 4)
    return table[:, :3].sum(1), table[:, 3]


def _rates(num: int, columns: list[np.ndarray], seed: int) -> np.ndarray:
    """Return the ratio of two columns' sums in every resample; those without a unit are out."""
    rng, sums = np.random.default_rng(seed), list[np.ndarray]()
    at_once = max(1, 2_000_000 // max(1, num))  # 16 MB of drawn places
    for start in range(0, NUM_RESAMPLES if num > 1 else 0, at_once):
        drawn = rng.integers(num, size=(min(at_once, NUM_RESAMPLES - start), num))
        sums.append(np.stack([column[drawn].sum(1) for column in columns]))
    errors, lengths = np.concatenate(sums, 1) if sums else np.zeros((2, 0), np.int64)
    return errors[lengths > 0] / lengths[lengths > 0]


def _percentiles(rates: np.ndarray) -> Interval | None:
    if not len(rates):
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """Return the corpus WER with its counts; the rate is None where nothing was said."""
    pairs = zip(references, hypotheses, strict=True)
    found = total(count(ref.split(), hyp.split()) for ref, hyp in pairs)
    return {
        "wer": found.rate,
        "words": found.length,
        "substitutions": found.substitutions,
        "deletions": found.deletions,
        "insertions": found.insertions,
        "clips": len(references),
    }
