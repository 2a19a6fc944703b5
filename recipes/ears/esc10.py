"""`python -m recipes.ears.esc10`: environmental sounds, named by a decoder, one fold left out.

Reads ../shared/data/esc10 (four folds of 80 clips, ten classes). Four models are trained, each
without one fold, by a plan that was fixed before any of them; then a table says what other layers
and rates give without fold 4. Every row is in runs/ears/esc10.json as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recipes.ears.frames import FrameStore
from recipes.ears.train import Plan, build, controls, fit, timed, with_prompts
from tiny_audio.data.examples import Dropped, Example, Limits, SourceConfig, read_source
from tiny_audio.evaluate.controls import Silence
from tiny_audio.evaluate.tasks import TASKS

ESC10 = "../shared/data/esc10/train.jsonl"
PROMPTS = ("Name the sound.", "What is this sound?", "Sound:")
OUT = Path("runs/ears/esc10.json")
FOLDS = (1, 2, 3, 4)
USUAL = Plan(hertz=10.0, steps=120, statistics_s=5.0, ridge=0.03, dropout=0.8, crop_s=3.0)
TABLE = (
    replace(USUAL, layers=(4,)),
    replace(USUAL, layers=(0,)),
    replace(USUAL, layers=(2,)),
    replace(USUAL, layers=(0, 4)),
    replace(USUAL, statistics_s=1.0),
    replace(USUAL, ridge=0.0, dropout=0.5),
    replace(USUAL, statistics_s=0.0, ridge=0.0, hertz=0.2, crop_s=0.0),
    replace(USUAL, statistics_s=0.0, ridge=0.0, hertz=2.0, crop_s=0.0),
)


def clips(path: str) -> list[Example]:
    """The clips with one of the prompts each; the label is what is to be written."""
    source = SourceConfig(path=path, text="label", prompt=PROMPTS[0])
    dropped = Dropped()
    found = read_source("esc10", source, Limits(max_s=30), dropped)
    print(f"{len(found)} clips; {dropped}", flush=True)
    return with_prompts(found, PROMPTS, 0)


def measure(
    plan: Plan, fold: int, examples: Sequence[Example], store: FrameStore
) -> dict[str, Any]:
    """Train without a fold, and answer it."""
    model = build(plan)
    train = [e for e in examples if e.columns["fold"] != fold]
    test = [e for e in examples if e.columns["fold"] == fold]
    losses, seconds = timed(lambda: fit(model, plan, train, store))
    silence = store.frames(Silence(5.0), model.config.encoder)
    scores = controls(model, TASKS["describe"], test, store, silence)
    row = {"fold": fold, "plan": asdict(plan), "clips": len(test), **scores}
    return row | {"loss": sum(losses[-10:]) / 10, "processor_s": round(seconds, 1)}


def main() -> None:
    """Measure all folds, then the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", default=ESC10)
    asked.add_argument("--out", type=Path, default=OUT)
    asked.add_argument("--steps", type=int, default=USUAL.steps)
    asked.add_argument("--batch", type=int, default=USUAL.batch)
    asked.add_argument("--folds", type=int, nargs="+", default=FOLDS, choices=FOLDS)
    asked.add_argument("--no-table", action="store_true", help="only the folds")
    options = asked.parse_args()
    examples, store = clips(options.data), FrameStore()
    store.encode([*(e.sound for e in examples), Silence(5.0)])
    print("all clips are encoded", flush=True)
    usual = replace(USUAL, steps=options.steps, batch=options.batch)
    planned = [(usual, fold) for fold in options.folds]
    table = () if options.no_table else TABLE
    planned += [(replace(p, steps=usual.steps, batch=usual.batch), FOLDS[-1]) for p in table]
    rows = list[dict[str, Any]]()
    for plan, fold in planned:
        rows.append(measure(plan, fold, examples, store))
        print(json.dumps(rows[-1]), flush=True)
        folds = [row["audio"] for row in rows[: len(options.folds)]]
        result = {"accuracy": sum(folds) / len(folds), "folds": len(folds), "rows": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
