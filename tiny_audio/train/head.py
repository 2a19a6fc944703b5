"""A CTC head for a frozen encoder, trained in minutes: the frames are heard once and kept.

    tiny-audio train-head nano --data clips.jsonl --output runs/head

metrics.jsonl    a line for every few steps and for every evaluation (word errors of the best path)
head/            step-N.safetensors to go on from
ctc/             the result: for `--aligner`, or to be put into a checkpoint
result.json      word errors on all validation clips, and what they were measured on
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tiny_audio.data.examples import Dropped, Example
from tiny_audio.data.mixture import Mixture, Plan, State, Visit, cut, padding
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.files import held, read_json, write_json
from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, encoder_id, spell, unpooled
from tiny_audio.model.encoder import Features
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import PRESETS
from tiny_audio.train.batch import Frames, cached_key
from tiny_audio.train.ctc import spelling_loss
from tiny_audio.train.data import Gathered, copies_of, fill, gather
from tiny_audio.train.folder import remember
from tiny_audio.train.frames import cache_in, clip_key, pad_frames
from tiny_audio.train.loop import Loop, LoopConfig, Losses
from tiny_audio.train.recipe import ModelConfig, Setting
from tiny_audio.train.run import device_of, starting_model
from tiny_audio.train.track import forget_after
from tiny_audio.train.view import say

FRAMES_A_SECOND = 50
HEAD = "head"


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(Setting):
    """One of `minutes` and `steps` is given. The encoder stays as it is, unless it has a rate.
    `head` is a folder of one to begin with.
    """

    minutes: float = 0.0
    steps: int = 0
    learning_rate: float = 3e-3
    encoder_rate: float = 0.0
    head: str = ""
    warmup_steps: int = 50
    hidden: int = 128
    depth: int = 2
    evaluate_every_s: float = 60.0
    save_every_s: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.minutes > 0) == (self.steps > 0):
            raise ConfigError("A head's training needs one of minutes and steps, and not both.")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.encoder_rate < math.inf:
            given = f"learning_rate={self.learning_rate} and encoder_rate={self.encoder_rate}"
            raise ConfigError(f"{given}: the first is above 0, the second not below.")


def train_head(recipe: HeadRecipe) -> dict[str, Any]:
    """Train, or go on where it stopped; returns what result.json says."""
    folder = Path(recipe.output or "runs/head")
    with held(folder):
        return _train_head(remember(recipe, folder), folder)


def _train_head(recipe: HeadRecipe, folder: Path) -> dict[str, Any]:
    if (done := folder / "result.json").exists():
        return read_json(done, "Delete it and repeat the command: it is measured again.")
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
    """Cached frames of a frozen encoder, or live sound for one that trains."""
    if not recipe.encoder_rate:
        return SpelledClips
    from tiny_audio.train.encoder import LiveClips

    return LiveClips


def chosen_model(name: str, encoder: str = "") -> ModelConfig:
    """nano or a checkpoint; else a preset's encoder, or the one that is given, before nano's
    language model: a head reads none, so none is fetched.
    """
    if name in PRESETS and (encoder or name != "nano"):
        return ModelConfig(preset=name, encoder=encoder, decoder="nano")
    return ModelConfig(checkpoint=name, encoder=encoder)


def listener(recipe: HeadRecipe, device: str) -> AudioLM:
    """The model of the recipe, its encoder frozen and giving all of its frames."""
    model = starting_model(recipe, device).eval()
    model.audio_tower = unpooled(model.audio_tower)
    model.audio_tower.freeze()
    return model


def loop_config(recipe: HeadRecipe, device: str, rates: dict[str, float]) -> LoopConfig:
    return LoopConfig(
        rates=rates,
        steps=recipe.steps,
        budget_s=recipe.minutes * 60,
        warmup_steps=recipe.warmup_steps,
        bf16=recipe.precision == "bf16",
        device=device,
        save_every_s=recipe.save_every_s,
        evaluate_every_s=recipe.evaluate_every_s,
    )


def record(folder: Path, row: dict[str, Any]) -> None:
    """A row of metrics.jsonl; evaluations are also shown."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": HEAD, **row}, ensure_ascii=False) + "\n")
    if row["kind"] == "evaluation":
        say(f"step {row['step']}, {row['elapsed_s']:.0f} s: {row['wer']:.1%} WER")
        for sample in row["samples"][:1]:
            say(f"    said   {sample['text']}\n    heard  {sample['hypothesis']}")


class SpelledBatch(NamedTuple):
    """What was heard of clips, and what is said in them in the head's characters."""

    heard: Frames | Features
    texts: list[str]
    audio_s: float
    padding: float


class SpelledClips:
    """The clips of a recipe whose texts the head can write, with their frames on disk."""

    def __init__(self, recipe: HeadRecipe, model: AudioLM):
        self.recipe, self.model = recipe, model
        self.found = gather(recipe, model)
        for name, listed in self.found.train.items():
            self.found.train[name] = spellable(listed, self.found.dropped)
        self.found.refuse_empty()
        self.validation = spellable(self.found.validation, self.found.dropped)
        if not self.validation:
            raise ConfigError(
                "There is no clip to validate on; give --validation MANIFEST, or "
                "--validation-speakers N where the training clips name their speakers."
            )
        random.Random(f"evaluation/{recipe.seed}").shuffle(self.validation)
        self.listen()
        mixture = Mixture(self.found.train, self.found.weights, recipe.seed, recipe.data.block)
        self.plan = Plan(mixture, recipe.data, num_frames)

    def listen(self) -> None:
        """Encode what no earlier run has."""
        recipe = self.recipe
        self.cache = cache = cache_in(Path(recipe.frames), self.model.audio_tower)
        as_recorded = replace(recipe, data=replace(recipe.data, augment=None))
        apart = Gathered({"validation": self.validation}, [], {}, self.found.dropped)
        fill(cache, self.found, recipe, self.model)
        fill(cache, apart, as_recorded, self.model)
        self.validation = apart.train["validation"]

    def about(self) -> dict[str, Any]:
        """What data.json says."""
        return self.found.about(self.plan)

    def head_config(self) -> CtcHeadConfig:
        encoder = self.model.audio_tower
        return CtcHeadConfig(
            width=encoder.config.width,
            encoder=encoder_id(encoder),
            hidden=self.recipe.hidden,
            depth=self.recipe.depth,
        )

    def first_head(self) -> CtcHead:
        """What training begins with: a head of this encoder, or a fresh one."""
        if self.recipe.head:
            return CtcHead.from_pretrained(Path(self.recipe.head), self.model.audio_tower)
        return self.fresh_head()

    def fresh_head(self) -> CtcHead:
        torch.manual_seed(self.recipe.seed)
        return CtcHead(self.head_config()).to(self.model.device)

    def loop(self, head: CtcHead, folder: Path) -> Loop:
        """What trains the head, and writes metrics.jsonl."""
        module, rates = self.trained(head)
        return Loop(
            module,
            loop_config(self.recipe, str(self.model.device), rates),
            folder / "head",
            loss=lambda batch: self.loss(head, batch),
            write=lambda row: record(folder, row),
        )

    def trained(self, head: CtcHead) -> tuple[nn.Module, dict[str, float]]:
        """What trains, and the learning rates of its parts."""
        return head, {"": self.recipe.learning_rate}

    def loss(self, head: CtcHead, batch: SpelledBatch) -> Losses:
        """CTC loss, summed over the clips, and their characters."""
        frames_BTE, lengths_B = self.frames(batch.heard)
        return Losses(*spelling_loss(head(frames_BTE, lengths_B), lengths_B, batch.texts))

    def frames(self, heard: Any) -> tuple[Tensor, Tensor]:
        """frames_BTE and lengths_B, on the model's device."""
        return heard.values.to(self.model.device), heard.lengths_B.to(self.model.device)

    def batches(self, state: State) -> Iterator[tuple[Sequence[SpelledBatch], State]]:
        """Steps for the loop, each with the state of the data after it."""
        for step, after in self.plan.steps(state):
            if batches := [batch for batch in map(self.batch, step) if batch]:
                yield batches, after

    def batch(self, visits: Sequence[Visit]) -> SpelledBatch | None:
        """None when no clip of these can be used."""
        how, copies = self.recipe.data.augment, copies_of(self.recipe)
        frames = [self.cache[cached_key(visit, how, copies)] for visit in visits]
        # Few shapes: kernels are compiled for each.
        return spelled(Frames(*pad_frames(frames, 64)), visits)

    def recorded(self, visits: Sequence[Visit]) -> Frames | Features:
        """Validation clips, as they were recorded."""
        clips = [self.cache[clip_key(visit.example.sound, None, 0)] for visit in visits]
        return Frames(*pad_frames(clips, 64))

    def write(self, head: CtcHead, folder: Path) -> None:
        head.save(folder / "ctc")

    @torch.no_grad()
    def word_errors(self, head: CtcHead, most: int) -> dict[str, Any]:
        """Word errors of the best path on the first `most` validation clips."""
        clips = sorted(self.validation[:most], key=num_frames)
        heard: list[str] = []
        for batch in cut([Visit(e, 0, 0) for e in clips], self.recipe.data, num_frames):
            heard += head.transcribe(*self.frames(self.recorded(batch)))
        said = [spell(example.text) for example in clips]
        pairs = list(zip(said, heard, strict=True))[:: max(1, len(said) // 8)]
        shown = [{"text": text, "hypothesis": hypothesis} for text, hypothesis in pairs]
        return {"kind": "evaluation", **word_errors(said, heard), "samples": shown}


def spelled(heard: Frames | Features, visits: Sequence[Visit]) -> SpelledBatch:
    return SpelledBatch(
        heard,
        [spell(visit.example.text) for visit in visits],
        sum(visit.example.duration_s for visit in visits),
        padding(heard.lengths_B.tolist()),
    )


def spellable(examples: Sequence[Example], dropped: Dropped) -> list[Example]:
    for example in examples:
        if not spell(example.text):
            dropped.add("a text with other letters than a to z", example.where)
    return [example for example in examples if spell(example.text)]


def num_frames(example: Example) -> int:
    """What a clip costs, to sort by."""
    return max(1, int(example.duration_s * FRAMES_A_SECOND))
