"""Comparing two systems on the same clips: by how much one is better, whether that is chance, and
where.

Differences are rate(A) − rate(B): negative where A is better. Their intervals come from drawing the
same clips for both, so what makes a clip hard for both does not blur the difference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiny_audio.evaluate import metrics
from tiny_audio.evaluate.clips import column_text
from tiny_audio.evaluate.metrics import Edit, Utterance, align
from tiny_audio.evaluate.normalize import Normalizer
from tiny_audio.model.errors import ConfigError

MOST_VALUES, NUM_BINS = 8, 4  # more different numbers than that are put into bins of like size
NUM_WORDS, NUM_WORST, NUM_NAMED = 20, 10, 3
Pair = tuple[Utterance, Utterance]


def compare(
    a: Sequence[Utterance], b: Sequence[Utterance], normalizer: Normalizer, by: Sequence[str] = ()
) -> dict[str, Any]:
    """Return JSON values: overall and per group of every column in `by`, words, and worst clips.

    Refuses other clips and other references, and names those that differ.
    """
    pairs = paired(a, b)
    return {
        "format": "tiny-audio comparison 1",
        "normalizer": normalizer.to_dict(),
        "overall": rates(pairs),
        "groups": {column: groups(pairs, column) for column in by},
        "words": {"a_right_b_wrong": words(pairs), "b_right_a_wrong": words(_swapped(pairs))},
        "worst": {"of_a": worst(pairs), "of_b": worst(_swapped(pairs), ("b", "a"))},
    }


def _swapped(pairs: Sequence[Pair]) -> list[Pair]:
    return [(b, a) for a, b in pairs]


def paired(a: Sequence[Utterance], b: Sequence[Utterance]) -> list[Pair]:
    """Return both systems' utterances by id, in order; `ConfigError` where they do not match."""
    ours, theirs = ({one.prediction.id: one for one in table} for table in (a, b))
    only = {"A": sorted(ours.keys() - theirs.keys()), "B": sorted(theirs.keys() - ours.keys())}
    if missing := [f"{len(ids)} only in {n} ({_some(ids)})" for n, ids in only.items() if ids]:
        raise ConfigError(
            f"The two runs have different clips: {' and '.join(missing)}. Run both on the same "
            "dataset with the same --seed, --where and --max-samples."
        )
    pairs = [(ours[key], theirs[key]) for key in sorted(ours)]
    if other := [x.prediction.id for x, y in pairs if x.ref != y.ref]:
        raise ConfigError(
            f"The references of {len(other)} clips differ ({_some(other)}): the two runs come "
            "from different datasets, or from different versions of one."
        )
    return pairs


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:NUM_NAMED]) + (", …" if len(ids) > NUM_NAMED else "")


def rates(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return both rates with their intervals, and their difference with its own."""
    counts = [[utterance.words for utterance in side] for side in zip(*pairs, strict=True)]
    a, b = (metrics.total(side) for side in counts)
    found = None if a.rate is None or b.rate is None else a.rate - b.rate
    return {
        "clips": len(pairs),
        "words": a.length,
        "a": _ends(a.rate, metrics.interval(counts[0])),
        "b": _ends(b.rate, metrics.interval(counts[1])),
        "difference": _ends(found, metrics.difference(counts[0], counts[1])),
    }


def _ends(rate: float | None, ends: metrics.Interval | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {"rate": rate, "low": low, "high": high}


def groups(pairs: Sequence[Pair], column: str) -> list[dict[str, Any]]:
    """Return `rates` of the clips that share a value of the column, numbers in like bins."""
    named, rows = labels(pairs, column), defaultdict[str, list[Pair]](list)
    for pair in pairs:
        rows[named[_value(pair, column)]].append(pair)
    order = list(dict.fromkeys(named.values()))
    return [{"value": label, **rates(rows[label])} for label in order]


def _value(pair: Pair, column: str) -> Any:
    """Return what stands in the column of either system's file; None where it is in neither."""
    a, b = (one.prediction.columns for one in pair)
    return a.get(column, b.get(column))


def labels(pairs: Sequence[Pair], column: str) -> dict[Any, str]:
    """Return every value of a column with the name of its group, in order."""
    known = {key for pair in pairs for one in pair for key in one.prediction.columns}
    if column not in known:
        raise ConfigError.unknown(column, known, "The table of columns")
    if any(isinstance(_value(pair, column), list | dict) for pair in pairs):
        raise ConfigError(f"The column {column!r} holds lists or objects, which make no groups.")
    values = {_value(pair, column) for pair in pairs}
    present = values - {None}
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
    if numeric and len(present) > MOST_VALUES:
        found = _bins([v for pair in pairs if (v := _value(pair, column)) is not None])
    else:
        order = sorted(present) if numeric else sorted(present, key=str)
        found = {value: column_text(value) for value in order}
    return found | ({None: "(none)"} if None in values else {})


def _bins(numbers: Sequence[float]) -> dict[Any, str]:
    """Put numbers in bins with about as many clips each; its least and largest name a bin."""
    edges = np.quantile(numbers, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    members = defaultdict[int, list[float]](list)
    for number in sorted(set(numbers)):
        members[int(np.searchsorted(edges, number))].append(number)
    named = dict[Any, str]()
    for inside in members.values():
        ends = dict.fromkeys((f"{inside[0]:g}", f"{inside[-1]:g}"))
        named |= dict.fromkeys(inside, "–".join(ends))
    return named


def words(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return words of the references that the first writes and the second does not, most frequent
    first, each with what the second wrote most often instead ("" for nothing).
    """
    missed, instead = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for a, b in pairs:
        for ours, theirs in zip(reference_edits(a), reference_edits(b), strict=True):
            if ours.kind == "equal" != theirs.kind:
                missed[theirs.ref] += 1
                instead[theirs.ref][theirs.hyp] += 1
    return [
        {"word": word, "count": count, "instead": instead[word].most_common(1)[0][0]}
        for word, count in missed.most_common(NUM_WORDS)
    ]


def reference_edits(utterance: Utterance) -> list[Edit]:
    """Return what became of every word of the reference, in order."""
    edits = align(utterance.ref.split(), (utterance.hyp or "").split())
    return [edit for edit in edits if edit.kind != "insert"]


def worst(pairs: Sequence[Pair], names: tuple[str, str] = ("a", "b")) -> list[dict[str, Any]]:
    """Return the clips on which the first system is worst against the second, with all texts."""
    ahead = [(x.words.errors - y.words.errors, x, y) for x, y in pairs]
    ahead = sorted((one for one in ahead if one[0] > 0), key=lambda one: -one[0])[:NUM_WORST]
    return [
        {"id": x.prediction.id, "more_errors": more, "ref": x.ref, **_texts(names, (x, y))}
        for more, x, y in ahead
    ]


def _texts(names: tuple[str, str], pair: Pair) -> Mapping[str, str | None]:
    return {name: one.hyp for name, one in sorted(zip(names, pair, strict=True))}
