"""Training a CTC head for a frozen encoder in minutes: the frames are computed once and kept.

    tiny-audio train-head nano --data clips.jsonl --out runs/head

metrics.jsonl    a line for every few steps and for every evaluation (word errors of the best path)
head/            step-N.safetensors to go on from
ctc/             the result: for `--aligner`, or to be put into a checkpoint
result.json      word errors on all validation clips, and what they were measured on
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_audio.files import held, read_json, write_json
from tiny_audio.infer.ctc_head import unpooled
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import PRESETS
from tiny_audio.train.ctc_clips import HEAD, SpelledClips
from tiny_audio.train.ctc_encoder import LiveClips
from tiny_audio.train.folder import remember
from tiny_audio.train.recipe import HeadRecipe, ModelConfig, Stage
from tiny_audio.train.run import device_of, starting_model
from tiny_audio.train.track import forget_after

FROZEN = Stage(
    learning_rate={"head": 3e-3},
    minutes=5.0,
    warmup_steps=50,
    final_rate=0.02,
    cache=True,
    evaluate_every_s=60.0,
    save_every_s=60.0,
)


def stage_of(minutes: float, head_rate: float | None, encoder_rate: float) -> Stage:
    """Return the stage of `train-head`; with a training encoder it is evaluated less often."""
    rates = {"head": FROZEN.learning_rate["head"] if head_rate is None else head_rate}
    stage = replace(FROZEN, minutes=minutes, learning_rate=rates)
    if not encoder_rate:
        return stage
    rates["encoder"] = encoder_rate
    return replace(stage, learning_rate=rates, cache=False, evaluate_every_s=240.0)


def train_head(recipe: HeadRecipe) -> dict[str, Any]:
    """Train a head, or continue where it stopped; return the content of result.json."""
    folder = Path(recipe.output or "runs/head")
    with held(folder):
        return _train_head(remember(recipe, folder), folder)


def _train_head(recipe: HeadRecipe, folder: Path) -> dict[str, Any]:
    if (done := folder / "result.json").exists():
        cure = "Delete it and repeat the command: it is measured again."
        return read_json(done, cure, ("wer", "clips"))
    device = device_of(recipe)
    clips = clips_of(recipe)(recipe, listener(recipe, device))
    write_json(folder / "data.json", clips.about())
    head = clips.first_head()
    loop = clips.loop(head, folder)
    loop.resume()
    forget_after(folder, HEAD, loop.step)
    loop.run(clips.batches, lambda: clips.word_errors(head, recipe.data.validation_clips))
    loop.module.eval()
    clips.write(head, folder)
    write_json(folder / "data.json", clips.about())
    result = clips.word_errors(head, len(clips.validation)) | {"steps": loop.step}
    write_json(done, result)
    return result


def clips_of(recipe: HeadRecipe) -> type[SpelledClips]:
    """Return cached frames of a frozen encoder, or live sound for one that trains."""
    return LiveClips if "encoder" in recipe.stage.learning_rate else SpelledClips


def chosen_model(name: str, encoder: str = "") -> ModelConfig:
    """Choose nano or a checkpoint; else a preset's encoder, or the one that is given, before nano's
    language model: a head reads none, so none is fetched.
    """
    if name in PRESETS and (encoder or name != "nano"):
        return ModelConfig(preset=name, encoder=encoder, decoder="nano")
    return ModelConfig(checkpoint=name, encoder=encoder)


def listener(recipe: HeadRecipe, device: str) -> AudioLM:
    """Return the model of the recipe, its encoder frozen and giving all of its frames."""
    model = starting_model(recipe, device).eval()
    model.audio_tower = unpooled(model.audio_tower)
    model.audio_tower.freeze()
    return model
