"""`python -m recipes.ears.together`: one model answers four questions, chosen by the prompt alone.

Environmental sounds (ESC-10 without its fourth fold), the age group and the gender of readers
(speechocean762 without the 25 readers who are kept apart), and the instrument of a piece (what
`python -m recipes.music` makes). Then one model for each question alone, by the same plan and with
as many visits to each question. All scores are in runs/ears/together.json as they are measured.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from recipes.ears import esc10, music
from recipes.ears.frames import FrameStore
from recipes.ears.train import Plan, build, controls, fit, timed, with_prompts
from recipes.nano.sources import held_out_readers, shared_data
from tiny_audio.data.examples import Dropped, Example, Limits, SourceConfig, read_source
from tiny_audio.evaluate.controls import Silence
from tiny_audio.evaluate.tasks import TASKS

OUT = Path("runs/ears/together.json")
FOLD, CHILD = 4, 12  # the fold that is answered, and the age up to which a reader is a child
QUESTIONS = 600  # of each kind in training, at most
ALONE = Plan(hertz=10.0, steps=200, statistics_s=30.0, ridge=0.1, dropout=0.5)


class Kind(NamedTuple):
    """The questions of one kind: those to train on, and those to answer."""

    train: list[Example]
    test: list[Example]


def sounds(path: str) -> Kind:
    """Return questions about what makes a sound; training asks them of each clip in every way."""
    examples = [named(e, "describe", e.text) for e in esc10.clips(path)]
    train = [e for e in examples if e.columns["fold"] != FOLD]
    ways = [replace(e, prompt=prompt) for e in train for prompt in TASKS["describe"].prompts]
    return Kind(ways, [e for e in examples if e.columns["fold"] == FOLD])


def readers(task: str) -> Kind:
    """Return questions about readers' age group or gender; no reader is in both sets."""
    source = SourceConfig(path=str(shared_data() / "speechocean762" / "train.jsonl"))
    found = read_source("speechocean762", source, Limits(max_s=30), Dropped())
    apart = held_out_readers({str(e.speaker) for e in found})
    right = {
        "age": lambda e: "child" if e.columns["age"] <= CHILD else "adult",
        "gender": lambda e: {"m": "male", "f": "female"}[e.columns["gender"]],
    }[task]
    examples = with_prompts([named(e, task, right(e)) for e in found], TASKS[task].prompts, 0)
    return Kind(
        [e for e in examples if e.speaker not in apart], [e for e in examples if e.speaker in apart]
    )


def instruments(folder: Path) -> Kind:
    """Return questions about the instrument of a piece, played with the soundfonts of training."""
    sets = (music.questions(folder, name) for name in ("train", "validation"))
    return Kind(*([named(e, "instrument", e.text) for e in s if is_instrument(e)] for s in sets))


def is_instrument(example: Example) -> bool:
    return bool(example.columns["task"] == "instrument")


def named(example: Example, task: str, answer: str) -> Example:
    """Return the example as a question of this kind."""
    return replace(example, text=answer, columns={**example.columns, "task": task})


def described(example: Example) -> dict[str, str]:
    return {example.columns["task"]: example.text}


def measure(plan: Plan, kinds: dict[str, Kind], store: FrameStore) -> dict[str, dict[str, float]]:
    """Train one model on questions of these kinds, and answer each kind."""
    model = build(plan)
    losses, seconds = timed(
        lambda: fit(model, plan, [e for k in kinds.values() for e in k.train], store, described)
    )
    loss = sum(losses[-20:]) / 20
    print(f"{', '.join(kinds)}: loss {loss:.3f} after {seconds:.0f} s", flush=True)
    silence = store.frames(Silence(5.0), model.config.encoder)
    scores = {
        name: controls(model, TASKS[name], kind.test, store, silence)
        for name, kind in kinds.items()
    }
    print(json.dumps(scores), flush=True)
    return scores


def few(examples: Sequence[Example], num: int) -> list[Example]:
    return random.Random("few").sample(list(examples), min(num, len(examples)))


def main() -> None:
    """Train one model for all kinds, then one for each."""
    asked = argparse.ArgumentParser(prog="python -m recipes.ears.together", description=__doc__)
    asked.add_argument("--sounds", default=esc10.ESC10)
    asked.add_argument("--music", type=Path, default=Path("runs/music"))
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--steps", type=int, default=ALONE.steps, help="for each kind")
    options = asked.parse_args()
    whole = {
        "describe": sounds(options.sounds),
        "age": readers("age"),
        "gender": readers("gender"),
        "instrument": instruments(options.music),
    }
    kinds = {n: Kind(few(k.train, QUESTIONS), few(k.test, 500)) for n, k in whole.items()}
    store = FrameStore()
    store.encode([Silence(5.0), *(e.sound for k in kinds.values() for part in k for e in part)])
    plan = replace(ALONE, steps=options.steps)
    together = replace(plan, steps=options.steps * len(kinds))
    result: dict[str, Any] = {"plan": asdict(plan), "together": measure(together, kinds, store)}
    result["questions"] = {n: [len(k.train), len(k.test)] for n, k in kinds.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name, kind in kinds.items():
        result.setdefault("alone", {})[name] = measure(plan, {name: kind}, store)[name]
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
