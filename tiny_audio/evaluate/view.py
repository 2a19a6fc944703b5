"""What an evaluation prints: a line a clip, a block every hundred, and tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tiny_audio.evaluate.failures import COUNTERS
from tiny_audio.evaluate.metrics import Counts, Utterance, total
from tiny_audio.evaluate.run import Watch

BLOCK = 100  # clips between two checkpoints
RULE = "=" * 80


def percent(rate: float | None, digits: int = 2) -> str:
    return "n/a" if rate is None else f"{100 * rate:.{digits}f}%"


def one_line(text: str | None) -> str:
    return "" if text is None else " ".join(text.split())


class Lines(Watch):
    """Prints samples and checkpoints on stdout; the corpus figure is that of all clips so far."""

    def __init__(self) -> None:
        self.num, self.seconds, self.words = 0, 0.0, Counts()

    def resumed(self, table: Sequence[Utterance]) -> None:
        for utterance in table:
            self._add(utterance)
        print(f"{self.num} samples were there; going on.", flush=True)

    def sample(self, utterance: Utterance) -> None:
        self._add(utterance)
        prediction = utterance.prediction
        rate = "FAILED" if utterance.hyp is None else f"WER = {percent(utterance.words.rate)}"
        said = f"  Pred: {one_line(prediction.hyp)}"
        print(f"Sample {self.num}: {rate}, Time = {prediction.seconds:.2f}s")
        print(f"  Ref:  {one_line(prediction.ref)}")
        print(f"  Error: {prediction.error}" if prediction.hyp is None else said, flush=True)
        if self.num % BLOCK == 0:
            self.checkpoint()

    def _add(self, utterance: Utterance) -> None:
        self.num += 1
        self.seconds += utterance.prediction.seconds
        self.words = total([self.words, utterance.words])

    def checkpoint(self) -> None:
        print(RULE)
        print(f"CHECKPOINT @ {self.num} samples:")
        print(f"  Corpus WER: {percent(self.words.rate)}")
        print(f"  Avg Time/Sample: {self.seconds / self.num:.2f}s")
        print(RULE, flush=True)


def show_result(name: str, result: Mapping[str, Any]) -> RenderableType:
    """Rates with their counts, what else went wrong, and how fast it was."""
    table = Table(title=Text(name), title_justify="left")
    for column in ("", "rate", "95 % interval", "sub", "del", "ins", "of", "answered clips only"):
        table.add_column(column, justify="left" if not column else "right")
    scores = result["scores"]
    for key, unit in (("wer", "words"), ("cer", "characters")):
        row = scores[key]
        numbers = [f"{row[k]:,}" for k in ("substitutions", "deletions", "insertions")]
        of, answered = f"{row['length']:,} {unit}", percent(scores["answered"][key])
        table.add_row(key.upper(), percent(row["rate"]), _interval(row), *numbers, of, answered)
    return Group(table, Text("\n".join(_facts(result))))


def _interval(row: Mapping[str, Any]) -> str:
    return "n/a" if row["low"] is None else f"{percent(row['low'])} – {percent(row['high'])}"


def _facts(result: Mapping[str, Any]) -> list[str]:
    scores, raised, normal = result["scores"], result["counters"], result["normalizer"]
    named = ", ".join(f"{raised[name]} {name.replace('_', ' ')}" for name in COUNTERS)
    facts = [f"{scores['clips']:,} clips: {named}"]
    if raised["nonspeech_words_per_minute"] is not None:
        clips, rate = raised["nonspeech_clips"], raised["nonspeech_words_per_minute"]
        facts.append(f"nothing said in {clips} of them: {rate:g} words a minute written there")
    if dropped := result["dataset"].get("dropped"):
        facts.append("left out: " + ", ".join(f"{n} × {why}" for why, n in dropped.items()))
    facts.append(f"normaliser: {normal['id']} (version {normal['version']})")
    if (factor := result["speed"]["real_time_factor"]) is not None:
        facts.append(f"real-time factor: {factor:.4f} on {_hardware(result['speed'])}")
    return facts


def _hardware(speed: Mapping[str, Any]) -> str:
    made = speed["hardware"]
    if made is None:
        return "unknown hardware"
    cpu = f"{made['cpu']} ({made['cores']} cores, {made['threads']} threads)"
    return f"{made['gpu']} and {cpu}" if made["gpu"] else cpu


def show_worst(table: Sequence[Utterance], count: int) -> RenderableType:
    """The utterances with the most errors: what was said, and what was written."""
    worst = sorted(table, key=lambda one: -one.words.errors)[:count]
    shown = Table(title="worst utterances", title_justify="left")
    for column in ("clip", "errors", "WER", "texts"):
        shown.add_column(column)
    for one in worst:
        texts = Text(f"Ref:  {one.ref}\nPred: {'(failed)' if one.hyp is None else one.hyp}")
        errors = f"{one.words.errors} of {one.words.length}"
        shown.add_row(Text(one.prediction.id), errors, percent(one.words.rate), texts)
    return shown
