"""`python -m recipes.ears.music`: one model, seven questions about music, by prompt.

Reads what `python -m recipes.music` makes, and writes runs/ears/music.json: for every question its
accuracy on held-out pieces, and on the soundfont that no training heard, beside swapped audio,
silence and the most frequent answer.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recipes.ears.frames import FrameStore
from recipes.ears.train import Plan, build, controls, fit, timed
from recipes.music.__main__ import ASKED
from tiny_audio.data.examples import Dropped, Example, Limits, SourceConfig, read_source
from tiny_audio.evaluate.controls import Silence
from tiny_audio.evaluate.tasks import TASKS
from tiny_audio.model.saving import save

OUT = Path("runs/ears/music.json")
SETS = ("train", "validation", "test")
USUAL = Plan(hertz=10.0, steps=4200, statistics_s=6.0, ridge=1.0, dropout=0.1, decoder_rate=1e-3)


def questions(folder: Path, name: str) -> list[Example]:
    """Return the questions of a set. Their answers are in lower case: nano's language model was
    trained on nothing else, and the embeddings of its capital letters are all alike.
    """
    dropped, source = Dropped(), SourceConfig(path=str(folder / f"{name}.jsonl"))
    found = read_source(name, source, Limits(max_s=30), dropped)
    print(f"{name}: {len(found)} questions; {dropped}", flush=True)
    return [replace(example, text=example.text.lower()) for example in found]


def described(example: Example) -> dict[str, str]:
    """Return the right answers to all that is asked about a piece."""
    return {task: example.columns[task].lower() for task in ASKED}


def judge(model: Any, asked: Sequence[Example], store: FrameStore) -> dict[str, dict[str, float]]:
    """Accuracy and controls of every task of a set."""
    silence = store.frames(Silence(6.0), model.config.encoder)
    found = dict[str, dict[str, float]]()
    for task in sorted({e.columns["task"] for e in asked}):
        own = [e for e in asked if e.columns["task"] == task]
        scores = controls(model, TASKS[task], own, store, silence)
        most = Counter(e.text for e in own).most_common(1)[0][1] / len(own)
        found[task] = {**scores, "majority": most, "questions": len(own)}
        print(f"{task}: {found[task]}", flush=True)
    return found


def main() -> None:
    """Train on one set, and answer the other two."""
    asked = argparse.ArgumentParser(prog="python -m recipes.ears.music", description=__doc__)
    asked.add_argument("--data", type=Path, default=Path("runs/music"))
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--steps", type=int, default=USUAL.steps)
    asked.add_argument("--hertz", type=float, default=USUAL.hertz)
    options = asked.parse_args()
    sets, store = {name: questions(options.data, name) for name in SETS}, FrameStore()
    sounds = [part.sound for found in sets.values() for e in found for part in e.parts()]
    store.encode([*sounds, Silence(6.0)])
    print("all clips are encoded", flush=True)
    plan = replace(USUAL, steps=options.steps, hertz=options.hertz)
    model = build(plan)
    losses, seconds = timed(lambda: fit(model, plan, sets["train"], store, described))
    print(f"loss {sum(losses[-10:]) / 10:.3f} after {seconds:.0f} s", flush=True)
    result: dict[str, Any] = {"plan": asdict(plan), "losses": [round(x, 4) for x in losses]}
    result["processor_s"] = round(seconds, 1)
    for name in SETS[1:]:
        result[name] = judge(model, sets[name], store)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    save(model, options.out.with_suffix(""), whole=True)


if __name__ == "__main__":
    main()
