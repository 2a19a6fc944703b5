"""Fitting a trained model to somebody's own clips, and measuring whether that helped (`tiny-audio
adapt`).

Some clips are kept apart, whole speakers where there are enough. The model is measured on them,
trained on the others through the ordinary recipe, and measured again on the same clips; the
difference counts as a gain only where its interval excludes 0.

    data/      train.jsonl and held-out.jsonl, as the clips were parted
    run/       the training run; run/model is the result
    before/ after/   the two evaluations, for `tiny-audio compare`
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.manifest import read_manifest, write_manifest
from tiny_audio.data.mixture import DataConfig
from tiny_audio.evaluate.compare import compare
from tiny_audio.evaluate.evaluator import RunConfig, evaluate
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.saved import Saved
from tiny_audio.evaluate.systems import OurModel
from tiny_audio.files import held, json_line, write_json
from tiny_audio.infer.token_head import FOLDER as TOKENS
from tiny_audio.infer.token_head import load_token_head
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.saving import save
from tiny_audio.presets import load
from tiny_audio.train.recipe import ModelConfig, Recipe, Stage
from tiny_audio.train.run import train

HELD_OUT_SHARE = 0.2
FEWEST_SPEAKERS, FEWEST_CLIPS = 5, 10
Rows = list[dict[str, Any]]


def adapt(model: str, data: Path, folder: Path, minutes: float, device: str) -> dict[str, Any]:
    """Part the clips, measure, train, measure again; return the comparison (A before, B after),
    and which test clips were left out or failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        part(data, folder / "data")
        before = measured(model, folder, "before", device)
        train(recipe_of(model, folder, minutes, device))
        decode_as_before(model, folder / "run" / "model")
        after = measured(str(folder / "run" / "model"), folder, "after", device)
        normal = normalizer()
        found = compare(before.table(normal), after.table(normal), normal) | not_scored(before)
        write_json(folder / "comparison.json", found)
        return found


def part(data: Path, folder: Path) -> None:
    """Write train.jsonl and held-out.jsonl; every line that is left out is named. A folder with
    other clips is refused: its run would be shown as that of these.
    """
    manifest = read_manifest(data)
    if manifest.skipped or len(manifest.rows) < FEWEST_CLIPS:
        left_out = ", ".join(f"{n} × {reason}" for reason, n in manifest.skipped.items())
        raise ConfigError(
            f"{data} has {len(manifest.rows)} usable clips ({left_out or 'no line left out'}); "
            f"adapting needs {FEWEST_CLIPS} or more, each with audio and text, and no broken line. "
            + ("Mend the lines or take them out." if left_out else "Record more clips.")
        )
    apart, rest = parted(manifest.rows)
    parts = {folder / "train.jsonl": rest, folder / "held-out.jsonl": apart}
    if all(path.is_file() for path in parts):
        if any(json_line(read_manifest(path).rows) != json_line(parts[path]) for path in parts):
            raise ConfigError(
                f"{folder.parent} holds a run on other clips than those of {data}. Give another "
                f"--out, or delete the folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path, rows in parts.items():
        write_manifest(path, rows)


def parted(rows: Sequence[dict[str, Any]], seed: int = 0) -> tuple[Rows, Rows]:
    """Part rows into those to measure on and those to train on. No speaker and no text is on both
    sides, where there are enough of them; which ones are kept apart follows from the seed.
    """
    speakers = {str(row.get("speaker", "")) for row in rows}
    column = "speaker" if len(speakers) >= FEWEST_SPEAKERS else "text"
    groups = sorted({str(row[column]) for row in rows})
    random.Random(seed).shuffle(groups)
    apart, chosen = list[dict[str, Any]](), set[str]()
    for group in groups:
        if len(apart) >= HELD_OUT_SHARE * len(rows) or len(chosen) == len(groups) - 1:
            break
        chosen.add(group)
        apart += [row for row in rows if str(row[column]) == group]
    rest = [row for row in rows if str(row[column]) not in chosen]
    if not apart or not rest:
        raise ConfigError("All clips have the same text, so none can be kept for the test.")
    return apart, rest


def measured(model: str, folder: Path, name: str, device: str) -> Saved:
    """Evaluate the model on the clips that were kept apart, and return its texts."""
    source = SourceConfig(path=str(folder / "data" / "held-out.jsonl"))
    system = OurModel(model, Transcriber.from_pretrained(model, device=device))
    evaluate(system, RunConfig(name="held-out", source=source), folder / name)
    return Saved.read(folder / name)


def not_scored(saved: Saved) -> dict[str, dict[str, int]]:
    """Return how many clips the evaluation left out, and how many failed, by reason."""
    failed = Counter(one.error for one in saved.predictions if one.outcome == "error")
    return {"dropped": (saved.run or {}).get("dropped") or {}, "failed": dict(failed)}


def decode_as_before(model: str, folder: Path) -> None:
    """Give the new checkpoint the decoding and the token head of the model that it came from, so
    that both are measured alike. Its projector has moved a little; the head is the old one.
    """
    old, new = load(model), load(folder)
    if head := load_token_head(old):
        head.save(folder / TOKENS, new)
    new.config.decoding_config = old.config.decoding_config
    save(new, folder)


def recipe_of(model: str, folder: Path, minutes: float, device: str) -> Recipe:
    """Return the recipe: projector and the decoder's adapters, at rates of a finished model, on
    varied copies.
    """
    adapters = load(model, check=False).config.lora
    rates = {"projector": 5e-5} | dict.fromkeys(adapters, 0.0002)
    stage = Stage(
        learning_rate=rates,
        lora=adapters,
        minutes=minutes,
        warmup_steps=10,
        evaluate_every_s=1e9,  # it is measured before and after, on all clips
    )
    data = DataConfig(
        sources={"clips": SourceConfig(path=str(folder / "data" / "train.jsonl"))},
        augment=replace(Augment(), speed=0.5),
        batch_s=40.0,
    )
    return Recipe(
        name="adapt",
        model=ModelConfig(checkpoint=model),
        data=data,
        stages={"adapt": stage},
        output=str(folder / "run"),
        device=device,
    )
