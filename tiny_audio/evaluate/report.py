"""Writing report.html, one page per evaluation, from result.json and predictions.jsonl beside it.

The page needs nothing but itself: styles, script, figure and the audio of the worst clips are in
it, and its policy forbids every request.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import soundfile

from tiny_audio.evaluate import metrics
from tiny_audio.evaluate.clips import column_text
from tiny_audio.evaluate.compare import labels
from tiny_audio.evaluate.failures import COUNTERS, failures_of
from tiny_audio.evaluate.metrics import Utterance, align
from tiny_audio.evaluate.proof import prove
from tiny_audio.evaluate.result import Result
from tiny_audio.evaluate.view import cut, decoding, percent
from tiny_audio.files import write_text
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.errors import AudioError, needing

with needing("An HTML report", "eval"):
    import jinja2

REPORT = "report.html"
NUM_WORST, NUM_WORDS = 20, 15
MOST_EDITS = 1000  # of one clip, word by word
MOST_ROWS = 2000  # of the table of all clips, the worst of them
MOST_AUDIO_S, MOST_AUDIO_BYTES = 30.0, 6_000_000  # of one clip; of all, as they stand in the page
MOST_VALUES = 40  # a column with more is no group: an id, a path
BINS = ((0.0, "0"), (0.1, "≤ 10"), (0.2, "≤ 20"), (0.3, "≤ 30"), (0.5, "≤ 50"), (0.75, "≤ 75"))


def write_report(folder: Path) -> Path:
    """Write `report.html` beside a result; `ConfigError` when its predictions do not prove it."""
    result, table = prove(folder)
    folder = folder if folder.is_dir() else folder.parent
    path = folder / REPORT
    write_text(path, render(result, table))
    return path


def render(result: Result, table: Sequence[Utterance]) -> str:
    """Return the page."""
    worst = sorted(table, key=lambda one: (-one.words.errors, one.prediction.id))
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    return environment.get_template("report.html.jinja").render(
        result=result,
        counters=[(name, words, result["counters"][name]) for name, words in COUNTERS.items()],
        bars=distribution(table),
        edits=frequent_edits(table),
        groups=groups(table),
        worst=worst_clips([one for one in worst if one.words.errors][:NUM_WORST]),
        rows=[row(one) for one in worst[:MOST_ROWS]],
        num_left_out=max(0, len(table) - MOST_ROWS),
        decoding=decoding(decode) if (decode := (result["system"] or {}).get("decode")) else "",
    )


def distribution(table: Sequence[Utterance]) -> list[dict[str, Any]]:
    """Count how many clips have which WER, for the figure; clips without words are no part."""
    rates = [rate for one in table if (rate := one.words.rate) is not None]
    counts = Counter(_bin(rate) for rate in rates)
    names = [name for _, name in BINS] + ["≤ 100", "> 100"]
    most = max(counts.values(), default=1)
    return [{"name": n, "count": counts[n], "height": 100 * counts[n] / most} for n in names]


def _bin(rate: float) -> str:
    for edge, name in BINS:
        if rate <= edge:
            return name
    return "≤ 100" if rate <= 1 else "> 100"


def frequent_edits(table: Iterable[Utterance]) -> dict[str, list[tuple[str, str, int]]]:
    """Return the most frequent edits, as (reference, hypothesis, count)."""
    counts = {"replace": Counter[tuple[str, str]](), "delete": Counter(), "insert": Counter()}
    for one in table:
        for edit in align(one.ref.split(), (one.hyp or "").split()):
            if edit.kind in counts:
                counts[edit.kind][edit.ref, edit.hyp] += 1
    return {
        kind: [(cut(ref), cut(hyp), count) for (ref, hyp), count in found.most_common(NUM_WORDS)]
        for kind, found in counts.items()
    }


def groups(table: Sequence[Utterance]) -> dict[str, list[dict[str, Any]]]:
    """Return the WER with its interval for every value of every column with several."""
    found = {}
    for column in dict.fromkeys(key for one in table for key in one.prediction.columns):
        values = [one.prediction.columns.get(column) for one in table]
        if any(isinstance(value, list | dict) for value in values):
            continue
        named = labels([(one, one) for one in table], column)
        members: dict[str, list[metrics.Counts]] = {label: [] for label in named.values()}
        for one, value in zip(table, values, strict=True):
            members[named[value]].append(one.words)
        if 1 < len(members) <= MOST_VALUES:
            found[column] = [_group(label, counts) for label, counts in members.items()]
    return found


def _group(label: str, counts: Sequence[metrics.Counts]) -> dict[str, Any]:
    whole = metrics.total(counts)
    low, high = metrics.interval(counts) or (None, None)
    return {
        "label": cut(label),
        "clips": len(counts),
        "words": whole.length,
        "rate": whole.rate,
        "low": low,
        "high": high,
    }


def row(one: Utterance) -> dict[str, Any]:
    """Return one line of the table of all clips."""
    prediction = one.prediction
    return {
        "id": cut(prediction.id),
        "rate": one.words.rate,
        "errors": one.words.errors,
        "seconds": prediction.duration_s,
        "ref": cut(one.ref),
        "hyp": None if one.hyp is None else cut(one.hyp),
        "error": None if prediction.error is None else cut(prediction.error),
        "raised": [name.replace("_", " ") for name in failures_of(one)],
        "columns": cut(" ".join(f"{k}={column_text(v)}" for k, v in prediction.columns.items())),
    }


def worst_clips(worst: Iterable[Utterance]) -> list[dict[str, Any]]:
    """Return the worst clips with their alignment, and the audio that fits into the page."""
    shown, left = [], MOST_AUDIO_BYTES
    for one in worst:
        audio = embedded(one, left)
        left -= len(audio or "")
        edits = align(one.ref.split(), (one.hyp or "").split())
        pairs = [e._replace(ref=cut(e.ref), hyp=cut(e.hyp)) for e in edits[:MOST_EDITS]]
        left_out = len(edits) - len(pairs)
        shown.append({**row(one), "edits": pairs, "left_out": left_out, "audio": audio})
    return shown


def embedded(one: Utterance, most_bytes: int) -> str | None:
    """Return the clip's first seconds as MP3 in base64; None where it is gone or would not fit.

    MP3 plays everywhere, and Opus takes six times as long to write (1.3 s for 5 s of sound).
    """
    if not Path(one.prediction.audio).is_file():
        return None
    try:
        samples = load_audio(one.prediction.audio).samples.numpy()
    except AudioError:
        return None  # it is among the failed clips, with the reason
    file = io.BytesIO()
    kept = samples[: int(MOST_AUDIO_S * SAMPLE_RATE)]
    soundfile.write(file, kept, SAMPLE_RATE, "MPEG_LAYER_III", format="MP3")
    coded = base64.b64encode(file.getvalue()).decode()
    return coded if len(coded) <= most_bytes else None
