"""Scoring understanding beside what the same questions give without the sound.

    audio       the clips themselves
    silence     as many samples of nothing
    swapped     another clip's audio, each clip's once (a seeded derangement)
    majority    the most frequent answer, always: no system is asked

A model that is no better with the audio than with silence or with another clip's has not listened.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tiny_audio.data.examples import Example, SourceConfig
from tiny_audio.evaluate.clips import batches, identifier
from tiny_audio.evaluate.evaluator import RunConfig, predict
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.provenance import made
from tiny_audio.evaluate.systems import System
from tiny_audio.evaluate.tasks import Task, expected, options_in, question
from tiny_audio.evaluate.understanding import (
    Understanding,
    check_references,
    score,
    slots_in,
)
from tiny_audio.evaluate.view import percent
from tiny_audio.files import held, write_json, write_text
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError

CONTROLS = ("audio", "silence", "swapped", "majority")
UNDERSTANDING = "understanding.json"


@dataclass(frozen=True)
class Silence:
    """A sound as long as a clip, with nothing in it."""

    duration_s: float

    def samples(self) -> np.ndarray:
        return np.zeros(max(1, round(self.duration_s * SAMPLE_RATE)), np.float32)

    def digest(self) -> str:
        return f"{round(self.duration_s * SAMPLE_RATE):064x}"


def derangement(num: int, seed: int) -> list[int]:
    """Return a random cycle through all places: none stays where it is (Sattolo 1986)."""
    if num < 2:
        raise ConfigError(
            "One clip cannot be swapped with another; take two or more questions of a kind."
        )
    rng, places = random.Random(f"swapped/{seed}"), list(range(num))
    for last in range(num - 1, 0, -1):
        other = rng.randrange(last)
        places[last], places[other] = places[other], places[last]
    return places


def controlled(examples: Sequence[Example], control: str, seed: int) -> list[Example]:
    """Return the same questions with the audio that a control puts in place of their own."""
    if control == "silence":
        return [silent(one) for one in examples]
    if control == "swapped":
        pairs = zip(examples, swapped(examples, seed), strict=True)
        return [replace(a, sound=b.sound, more=b.more, duration_s=b.duration_s) for a, b in pairs]
    return list(examples)


def swapped(examples: Sequence[Example], seed: int) -> list[Example]:
    """Return another example for each, with as many clips as it has."""
    others = list(examples)
    for num_more in {len(one.more) for one in examples}:
        alike = [n for n, one in enumerate(examples) if len(one.more) == num_more]
        for place, other in zip(alike, derangement(len(alike), seed), strict=True):
            others[place] = examples[alike[other]]
    return others


def silent(example: Example) -> Example:
    """Return the question with a silence for each of its clips, together as long as they are."""
    silence = Silence(example.duration_s / (1 + len(example.more)))
    return replace(example, sound=silence, more=(silence,) * len(example.more))


def asking(examples: Sequence[Example], task: Task) -> list[Example]:
    """Return the clips with the task's question, and the options of a multiple choice."""
    return [replace(one, prompt=_question(one, task)) for one in examples]


def _question(example: Example, task: Task) -> str:
    asked = example.prompt or task.prompt
    if task.kind != "choice":
        return asked
    return f"{asked}\n{question(options_in(example.columns))}".strip()


def majority(task: Task, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the most frequent answer for every clip."""
    if task.kind == "caption":
        counts: dict[str, Counter[str]] = {}
        for one in predictions:
            for slot, value in slots_in(task, one.columns).items():
                counts.setdefault(slot, Counter())[value] += 1
        answer = ", ".join(found.most_common(1)[0][0] for found in counts.values())
    else:
        answers = Counter(expected(task, one.ref, one.columns) for one in predictions)
        answer = answers.most_common(1)[0][0]
    return [replace(p, hyp=answer, outcome="ok", error="", seconds=0.0) for p in predictions]


def with_controls(
    system: System,
    task: Task,
    examples: Sequence[Example],
    source: SourceConfig,
    seed: int = 42,
    batch_s: float = 60.0,
) -> dict[str, list[Prediction]]:
    """Return the answers under every control, in the order of the examples. What could not be
    scored is refused before anything is asked.
    """
    check_references(task, [(one.text, one.columns) for one in examples])
    config = RunConfig(name=source.path, source=source, seed=seed, batch_s=batch_s)
    asked, found = asking(examples, task), dict[str, list[Prediction]]()
    order = {identifier(one, source): n for n, one in enumerate(examples)}
    placed = {control: controlled(asked, control, seed) for control in CONTROLS[:3]}
    for control, questions in placed.items():
        answers = [
            prediction
            for batch in batches(questions, batch_s)
            for prediction in predict(system, config, batch)
        ]
        found[control] = sorted(answers, key=lambda p: order[p.id])
    return found | {"majority": majority(task, found["audio"])}


def understand(
    system: System,
    task: Task,
    examples: Sequence[Example],
    source: SourceConfig,
    folder: Path,
    seed: int = 42,
) -> dict[str, Any]:
    """Answer the questions, score the answers, and keep them: a file of predictions for every
    control, and understanding.json.
    """
    with held(folder):
        return _understand(system, task, examples, source, folder, seed)


def _understand(
    system: System,
    task: Task,
    examples: Sequence[Example],
    source: SourceConfig,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    answers = with_controls(system, task, examples, source, seed)
    for control, predictions in answers.items():
        lines = "".join(prediction.to_line() for prediction in predictions)
        write_text(folder / f"{control}.jsonl", lines)
    scores = {control: score(task, predictions) for control, predictions in answers.items()}
    about = system.about()
    result = {
        "format": "tiny-audio understanding 1",
        "task": task.to_dict(),
        "system": about,
        "dataset": source.to_dict(),
        "seed": seed,
        "scores": {control: one.to_dict() for control, one in scores.items()},
        "listens": listens(scores),
        "made": made(str(about.get("device", "cpu"))),
    }
    write_json(folder / UNDERSTANDING, result)
    return result


def listens(scores: dict[str, Understanding]) -> bool:
    """Tell whether the score with the audio lies above all controls, interval above interval."""
    others = (one.interval[1] for name, one in scores.items() if name != "audio")
    return scores["audio"].interval[0] > max(others)


def show_controls(result: dict[str, Any]) -> Table:
    """Show a line for the audio and one for every control."""
    verdict = "above every control" if result["listens"] else "NOT above every control"
    title = f"{result['system']['name']}: with the audio, accuracy is {verdict}"
    shown = Table(title=title, title_justify="left")
    for head in ("audio", "accuracy", "95 % interval", "macro-F1", "clips", "unparsed", "failed"):
        shown.add_column(head, justify="left" if head == "audio" else "right")
    for name, one in result["scores"].items():
        low, high = one["interval"]
        counts = (one["num_clips"], one["num_unparsed"], one["num_failed"])
        rates = (percent(one["accuracy"]), f"{percent(low)} – {percent(high)}")
        shown.add_row(name, *rates, f"{one['macro_f1']:.3f}", *map(str, counts))
    return shown
