"""Printing an evaluation: a line a clip, a block every hundred, and tables of results."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tiny_audio.evaluate.evaluator import Watch
from tiny_audio.evaluate.failures import COUNTERS, failures_of
from tiny_audio.evaluate.metrics import Counts, Utterance, total
from tiny_audio.files import whole
from tiny_audio.infer.formats import clean
from tiny_audio.progress import written

BLOCK = 100  # clips between two checkpoints
RULE = "=" * 80
MOST_CHARS = 2_000  # of one text on a page


def percent(rate: float | None, digits: int = 2) -> str:
    return "n/a" if rate is None else f"{100 * rate:.{digits}f}%"


def one_line(text: str | None) -> str:
    return "" if text is None else clean(text)


def cut(text: str, most: int = MOST_CHARS) -> str:
    """Return a text as a page shows it: a megabyte of it would make a page that nobody can open."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


class Lines(Watch):
    """Prints samples and checkpoints on stdout; the corpus figure is that of all clips so far."""

    def __init__(self, settings: str = "") -> None:
        """Take the `settings` that stand beside every corpus figure: normaliser and decoding."""
        self.settings = f" ({settings})" if settings else ""
        self.num, self.seconds, self.words = 0, 0.0, Counts()

    def resumed(self, table: Sequence[Utterance]) -> None:
        for utterance in table:
            self._add(utterance)
        print(f"{self.num} samples were there; going on.", flush=True)

    def sample(self, utterance: Utterance) -> None:
        self._add(utterance)
        prediction = utterance.prediction
        rate = "FAILED" if utterance.hyp is None else f"WER = {percent(utterance.words.rate)}"
        line = f"  Pred: {written(one_line(prediction.hyp))}"
        print(f"Sample {self.num}: {rate}, Time = {prediction.seconds:.2f}s")
        print(f"  Ref:  {one_line(prediction.ref)}")
        print(f"  Error: {prediction.error}" if prediction.hyp is None else line, flush=True)
        if self.num % BLOCK == 0:
            self.checkpoint()

    def _add(self, utterance: Utterance) -> None:
        self.num += 1
        self.seconds += utterance.prediction.seconds
        self.words = total([self.words, utterance.words])

    def checkpoint(self) -> None:
        print(RULE)
        print(f"CHECKPOINT @ {self.num} samples:")
        print(f"  Corpus WER: {percent(self.words.rate)}{self.settings}")
        print(f"  Avg Time/Sample: {self.seconds / self.num:.2f}s")
        print(RULE, flush=True)


def show_result(name: str, result: Mapping[str, Any]) -> RenderableType:
    """Show rates with their counts, what else went wrong, and how fast it was."""
    table = Table(title=Text(name), title_justify="left")
    for column in ("", "rate", "95 % interval", "S", "D", "I", "N"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for key in ("wer", "cer"):
        row = result["scores"][key]
        numbers = [f"{row[k]:,}" for k in Counts._fields]
        table.add_row(key.upper(), percent(row["rate"]), _interval(row), *numbers)
    return Group(table, Text("\n".join(_facts(result))))


def _interval(row: Mapping[str, Any]) -> str:
    return "n/a" if row["low"] is None else f"{percent(row['low'])} – {percent(row['high'])}"


def _facts(result: Mapping[str, Any]) -> list[str]:
    scores, raised, normal = result["scores"], result["counters"], result["normalizer"]
    always = "errors"  # the others are left out where they are 0
    shown = {
        words: raised[name] for name, words in COUNTERS.items() if raised[name] or name == always
    }
    named = ", ".join(f"{words}: {count}" for words, count in shown.items())
    facts = [f"{scores['clips']:,} clips; {named}"]
    if scores["failed"]:
        wer, cer = (percent(scores["answered"][key]) for key in ("wer", "cer"))
        facts.append(f"of the {scores['answered']['clips']:,} answered: WER {wer}, CER {cer}")
    if raised["nonspeech_words_per_minute"] is not None:
        clips, rate = raised["nonspeech_clips"], raised["nonspeech_words_per_minute"]
        facts.append(f"nothing said in {clips} of them: {rate:g} words a minute written there")
    if dropped := result["dataset"].get("dropped"):
        facts.append("left out: " + ", ".join(f"{n} × {why}" for why, n in dropped.items()))
    facts.append(f"normaliser: {normal['id']} (version {normal['version']})")
    if decode := (result["system"] or {}).get("decode"):
        facts.append(f"decoding: {decoding(decode)}")
    if (factor := result["speed"]["real_time_factor"]) is not None:
        hardware = _hardware(result["speed"])
        facts.append(
            f"real-time factor (time of computing / length of audio): {factor:.4f} on {hardware}"
        )
    return facts


def decoding(decode: Mapping[str, Any]) -> str:
    """Say how texts were found: greedy, or 5 beams; then what is not as usual."""
    rest = dict(decode)
    method, beams = rest.pop("method", "greedy"), rest.pop("beams", None)
    rest.pop("ctc_head", None)
    others = [f"{key.replace('_', ' ')} {value}" for key, value in rest.items()]
    return ", ".join([f"{beams} beams" if beams else str(method), *others])


def _hardware(speed: Mapping[str, Any]) -> str:
    made = speed["hardware"]
    if made is None:
        return "unknown hardware"
    cpu = f"{made['cpu']} ({made['cores']} cores, {made['threads']} threads)"
    return f"{made['gpu']} and {cpu}" if made["gpu"] else cpu


def show_worst(table: Sequence[Utterance], count: int) -> RenderableType:
    """Show the utterances with the most errors: reference and hypothesis."""
    worst = sorted(table, key=lambda one: -one.words.errors)[:count]
    shown = Table(title="worst clips", title_justify="left")
    for column in ("clip", "errors", "WER", "texts"):
        shown.add_column(column)
    for one in worst:
        texts = Text(f"Ref:  {one.ref}\nPred: {written(one.hyp)}")
        errors = f"{one.words.errors} of {one.words.length}"
        shown.add_row(Text(clean(one.prediction.id)), errors, percent(one.words.rate), texts)
    return shown


def write_table(path: Path, tables: Mapping[str, Sequence[Utterance]]) -> None:
    """Write every utterance of every file as CSV: texts as compared, counts, and how it ended."""
    counted = ("substitutions", "deletions", "insertions", "length")
    units = [f"{unit}_{name}" for unit in ("word", "char") for name in counted]
    with whole(path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "id", "ref", "hyp", "wer", "cer", *units, "outcome", "failures"])
        for name, table in tables.items():
            for one in table:
                texts = (name, one.prediction.id, one.ref, one.hyp)
                ending = (one.prediction.outcome, " ".join(failures_of(one)))
                rates = (one.words.rate, one.chars.rate)
                rows.writerow([*texts, *rates, *one.words, *one.chars, *ending])


def show_comparison(names: tuple[str, str], found: Mapping[str, Any]) -> RenderableType:
    """Show the difference overall and by groups, then the words and the clips that make it."""
    title = f"A: {names[0]}\nB: {names[1]}"
    parts: list[RenderableType] = [_differences(title, "", [{"value": "all", **found["overall"]}])]
    parts += [_differences(f"by {c}", c, rows) for c, rows in found["groups"].items()]
    parts += [
        Text(
            "A − B is negative where A has fewer errors, and may be chance if its interval holds 0."
        ),
        _words("A right, B wrong", found["words"]["a_right_b_wrong"]),
        _words("B right, A wrong", found["words"]["b_right_a_wrong"]),
        _worst("A worse than B", found["worst"]["of_a"]),
        _worst("B worse than A", found["worst"]["of_b"]),
    ]
    normal = found["normalizer"]
    parts.append(Text(f"normaliser: {normal['id']} (version {normal['version']})"))
    return Group(*parts)


def _differences(title: str, column: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column(column)
    for name in ("clips", "words", "WER of A", "WER of B", "A − B (points)", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        pair = (percent(row[one]["rate"]) for one in ("a", "b"))
        counts = (f"{row['clips']:,}", f"{row['words']:,}")
        values = (*counts, *pair, *points(row["difference"]))
        table.add_row(Text(row["value"]), *values)
    return table


def points(found: Mapping[str, float | None]) -> tuple[str, str]:
    """Show a difference and its interval in points: with a sign, so with "to" between two."""
    middle, low, high = (
        "n/a" if rate is None else f"{100 * rate:+.2f}"
        for rate in (found["rate"], found["low"], found["high"])
    )
    return middle, "n/a" if found["low"] is None else f"{low} to {high}"


def _words(title: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    shown = [f"{row['word']} × {row['count']} ({row['instead'] or '–'})" for row in rows]
    return Text(f"{title}: {', '.join(shown) or 'no word'}")


def _worst(title: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    lines = [f"{title}: {'' if rows else 'no clip'}"]
    for row in rows:
        more = f"{row['more_errors']} more error{'s' if row['more_errors'] > 1 else ''}"
        lines += [f"  {row['id']}, {more}", f"    Ref: {row['ref']}"]
        lines += [f"    A:   {written(row['a'])}", f"    B:   {written(row['b'])}"]
    return Text("\n".join(lines))
