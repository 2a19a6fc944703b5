"""The clips for training a CTC head: texts it can spell, and frames that are encoded once and
kept.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tiny_audio.data.examples import Dropped, Example
from tiny_audio.data.mixture import Mixture, Plan, State, Visit, cut, padding
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.files import append_json
from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, encoder_id, spell
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.features import Features, Frames, pad_frames
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import FRAMES
from tiny_audio.train.batch import cached_key
from tiny_audio.train.ctc import spelling_loss
from tiny_audio.train.data import Gathered, copies_of, fill, gather
from tiny_audio.train.frames import cache_in, clip_key
from tiny_audio.train.loop import Loop, Losses
from tiny_audio.train.recipe import HeadRecipe, LoopConfig
from tiny_audio.train.run import num_steps
from tiny_audio.train.screen import say

FRAMES_A_SECOND = 50
HEAD = "head"


def record(folder: Path, row: dict[str, Any]) -> None:
    """Write a row of metrics.jsonl; evaluations are also shown."""
    append_json(folder / "metrics.jsonl", {"stage": HEAD, **row})
    if row["kind"] == "evaluation":
        say(f"step {row['step']}, {row['elapsed_s']:.0f} s: {row['wer']:.1%} WER")
        for sample in row["samples"][:1]:
            say(f"    reference   {sample['text']}\n    hypothesis  {sample['hypothesis']}")


class SpelledBatch(NamedTuple):
    """Frames or features of clips, and their texts in the head's characters."""

    audio: Frames | Features
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
        """Encode clips that no earlier run has encoded."""
        recipe = self.recipe
        self.cache = cache = cache_in(Path(recipe.frames), self.model.audio_tower)
        as_recorded = replace(recipe, data=replace(recipe.data, augment=None))
        apart = Gathered({"validation": self.validation}, [], {}, self.found.dropped)
        fill(cache, self.found, recipe, self.model)
        fill(cache, apart, as_recorded, self.model)
        self.validation = apart.train["validation"]

    def about(self) -> dict[str, Any]:
        """Return the content of data.json."""
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
        """Return the head that training begins with: a head of this encoder, or a fresh one."""
        if self.recipe.head:
            return CtcHead.from_pretrained(Path(self.recipe.head), self.model.audio_tower)
        return self.fresh_head()

    def fresh_head(self) -> CtcHead:
        torch.manual_seed(self.recipe.seed)
        return CtcHead(self.head_config()).to(self.model.device)

    def loop(self, head: CtcHead, folder: Path) -> Loop:
        """Make the loop that trains the head and writes metrics.jsonl."""
        module, rates = self.trained(head)
        stage, device = self.recipe.stage, str(self.model.device)
        steps = num_steps(stage, self.plan)
        return Loop(
            module,
            LoopConfig.of(stage, steps, self.recipe, rates=rates, device=device),
            folder / "head",
            loss=lambda batch: self.loss(head, batch),
            write=lambda row: record(folder, row),
        )

    def trained(self, head: CtcHead) -> tuple[nn.Module, dict[str, float]]:
        """Return the module that trains, and the learning rates of its parts."""
        return head, {"": self.recipe.stage.learning_rate["head"]}

    def loss(self, head: CtcHead, batch: SpelledBatch) -> Losses:
        """Return the CTC loss, summed over the clips, and their characters."""
        frames_BTE, lengths_B = self.frames(batch.audio)
        return Losses(*spelling_loss(head(frames_BTE, lengths_B), lengths_B, batch.texts))

    def frames(self, audio: Any) -> tuple[Tensor, Tensor]:
        """Return frames_BTE and lengths_B, on the model's device."""
        return audio.values.to(self.model.device), audio.lengths_B.to(self.model.device)

    def batches(self, state: State) -> Iterator[tuple[Sequence[SpelledBatch], State]]:
        """Yield steps for the loop, each with the state of the data after it."""
        for step, after in self.plan.steps(state):
            if batches := [batch for batch in map(self.batch, step) if batch]:
                yield batches, after

    def batch(self, visits: Sequence[Visit]) -> SpelledBatch | None:
        """Make a batch; None when no clip of these can be used."""
        how, copies = self.recipe.data.augment, copies_of(self.recipe)
        frames = [self.cache[cached_key(visit, how, copies)] for visit in visits]
        # Few shapes: kernels are compiled for each.
        return spelled(pad_frames(frames, FRAMES), visits)

    def recorded(self, visits: Sequence[Visit]) -> Frames | Features:
        """Return validation clips as they were recorded."""
        clips = [self.cache[clip_key(visit.example.sound, None, 0)] for visit in visits]
        return pad_frames(clips, FRAMES)

    def write(self, head: CtcHead, folder: Path) -> None:
        head.save(folder / "ctc")

    @torch.no_grad()
    def word_errors(self, head: CtcHead, most: int) -> dict[str, Any]:
        """Count word errors of the best path on the first `most` validation clips."""
        clips = sorted(self.validation[:most], key=num_frames)
        hypotheses: list[str] = []
        for batch in cut([Visit(e, 0, 0) for e in clips], self.recipe.data, num_frames):
            hypotheses += head.transcribe(*self.frames(self.recorded(batch)))
        references = [spell(example.text) for example in clips]
        pairs = list(zip(references, hypotheses, strict=True))[:: max(1, len(references) // 8)]
        shown = [{"text": text, "hypothesis": hypothesis} for text, hypothesis in pairs]
        return {"kind": "evaluation", **word_errors(references, hypotheses), "samples": shown}


def spelled(audio: Frames | Features, visits: Sequence[Visit]) -> SpelledBatch:
    return SpelledBatch(
        audio,
        [spell(visit.example.text) for visit in visits],
        sum(visit.example.duration_s for visit in visits),
        padding(audio.lengths_B.tolist()),
    )


def spellable(examples: Sequence[Example], dropped: Dropped) -> list[Example]:
    for example in examples:
        if not spell(example.text):
            dropped.add("a text with other letters than a to z", example.where)
    return [example for example in examples if spell(example.text)]


def num_frames(example: Example) -> int:
    """Return what a clip costs, to sort by."""
    return max(1, int(example.duration_s * FRAMES_A_SECOND))
