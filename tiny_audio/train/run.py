"""A training run, top to bottom: model, clips, then stage after stage into a folder.

recipe.yaml      what was asked for, complete; `tiny-audio train recipe.yaml` repeats it
data.json        clips kept, and left out for which reason and where
machines.jsonl   a line for every time the run was taken up: date, command, hardware, versions
metrics.jsonl    a line for every few steps and for every evaluation; curves.png draws it
STAGE/           step-N.safetensors to go on from, table.json, best/ by WER
model/           the result, for `tiny-audio transcribe --model`
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiny_audio.data.mixture import Plan, State, StreamPlan, worst
from tiny_audio.files import append_json, held, joined, read_any_json, read_json, write_json
from tiny_audio.model.checkpoint import load as load_checkpoint
from tiny_audio.model.checkpoint import scale_projector
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projector import projector_config
from tiny_audio.model.saving import save
from tiny_audio.presets import NANO, preset, shipped
from tiny_audio.train import stages
from tiny_audio.train.batch import Batch, Collator
from tiny_audio.train.curves import draw_curves
from tiny_audio.train.data import Gathered, copies_of, fill, gather, plan_of, tasks_of
from tiny_audio.train.distributed import launch, rank, wait_for_all, world_size
from tiny_audio.train.evaluation import Evaluation
from tiny_audio.train.folder import folder_of, note_machine, remember
from tiny_audio.train.frames import FrameCache, cache_in
from tiny_audio.train.loop import Loop
from tiny_audio.train.recipe import LoopConfig, ModelConfig, Recipe, Setting, Stage
from tiny_audio.train.saves import last_save, restore
from tiny_audio.train.screen import say
from tiny_audio.train.task import Listening
from tiny_audio.train.track import forget_after, tracker

Write = Callable[[dict[str, Any]], None]


def train(recipe: Recipe, processes: int = 1, watch: Write | None = None) -> Path:
    """Run a recipe, or continue it where it stopped; return its folder.

    `watch` is called with every row of metrics.jsonl, in the first process.
    """
    refuse_idle(recipe.data.micro_batches, int(os.environ.get("WORLD_SIZE", processes)))
    folder = folder_of(recipe)
    # Under torchrun the first process takes the folder; the others join it when all have met.
    with held(folder) if int(os.environ.get("RANK", 0)) == 0 else nullcontext():
        recipe = remember(recipe, folder)
        launch(_work, (recipe, folder, watch), processes, recipe.device)
    return folder


def refuse_idle(micro_batches: int, processes: int) -> None:
    if micro_batches < processes:
        raise ConfigError(
            f"A step has data.micro_batches={micro_batches} for {processes} processes, so some "
            f"would have nothing to do. Set data.micro_batches={processes}, or a multiple of it."
        )


def device_of(recipe: Setting) -> str:
    """Return the device that was asked for, or else a GPU if there is one."""
    has_gpu = torch.cuda.is_available()
    if recipe.device.startswith("cuda") and not has_gpu:
        raise ConfigError(
            f"device={recipe.device}, but PyTorch finds no GPU here. Leave it out to compute on "
            f"what there is."
        )
    return recipe.device or ("cuda" if has_gpu else "cpu")


def _work(arguments: tuple[Recipe, Path, Write | None]) -> None:
    with joined(arguments[1]):
        Run(*arguments)()


class Run:
    """One recipe in one process of those that share it."""

    def __init__(self, recipe: Recipe, folder: Path, watch: Write | None):
        self.recipe, self.folder, self.watch = recipe, folder, watch
        self.device = device_of(recipe)
        self.model = self.begin()
        self.found = gather(recipe, self.model)
        self.reported: Counter[str] = Counter()
        self.tell_left_out()
        self.found.dropped.merge(self.about().get("places", {}))  # met before the run was stopped
        track = recipe.track if rank() == 0 else ""
        self.track = tracker(track, folder, recipe.to_dict())

    def begin(self) -> AudioLM:
        torch.manual_seed(self.recipe.seed)  # of the fresh projector
        return starting_model(self.recipe, self.device)

    def __call__(self) -> None:
        if rank() == 0:
            note_machine(self.folder, self.device, world_size())
        for name, stage in self.recipe.stages.items():
            if not (self.folder / name / "done.json").exists():
                self.run(name, stage)
            if self.is_sharded():  # a model that lies in pieces is made anew, whole
                self.model = self.begin()
                for earlier in list(self.recipe.stages)[: list(self.recipe.stages).index(name)]:
                    self.take_over(earlier)
            self.take_over(name)
        result = self.result()
        self.model.config.tasks = tasks_of(self.model, self.recipe, self.found) or None
        if rank() == 0:
            save(self.model, self.folder / "model")
            draw_curves(self.folder)
            if result:
                write_json(self.folder / "result.json", result)
            write_json(self.folder / "data.json", self.about() | self.found.left_out())
            self.tell_left_out()

    def result(self) -> dict[str, Any]:
        """Evaluate all validation clips; evaluations on the way take `validation_clips` of them."""
        if not (clips := self.found.validation):
            return {}
        every = replace(self.recipe.data, validation_clips=len(clips))
        row = Evaluation(self.model.eval(), clips, every, self.recipe.seed, self.found.dropped)()
        voices = len({clip.speaker for clip in clips if clip.speaker})
        return row | {"voices": voices, "beams": every.validation_beams}

    def is_sharded(self) -> bool:
        return self.recipe.strategy == "fsdp" and world_size() > 1

    def take_over(self, name: str) -> None:
        """Restore the model as a finished stage left it, from that stage's last save."""
        stages.begin(self.model, self.recipe.stages[name])
        restore(Listening(self.model), last_save(self.folder / name))

    def run(self, name: str, stage: Stage) -> None:
        recipe, model, folder = self.recipe, self.model, self.folder / name
        torch.manual_seed(recipe.seed)  # of new adapters, whatever came before
        made = stages.begin(model, stage)
        # What cannot be decoded leaves the clips of a stage with a cache, and of no other: a run
        # that is taken up after that stage knows nothing of it.
        found = replace(self.found, train=dict(self.found.train))
        cache = self.cache(stage, found)
        plan = plan_of(found, recipe, stage, model)
        if rank() == 0:
            self.write_tables(folder, made, found.about(plan))
        collate = Collator(
            model,
            recipe.data.augment,
            cache,
            copies_of(recipe),
            stage.frame_dropout,
            stage.frame_stretch,
            few_shapes=self.device == "cpu" and recipe.precision == "bf16",
            dropped=self.found.dropped,
        )
        if name == next(iter(recipe.stages)) and not recipe.model.checkpoint:
            self.scale(collate, plan)
        loop = self.loop(name, stage, num_steps(stage, plan))
        if not loop.resume():
            self.start(name, stage, made, loop, collate, plan)
        if rank() == 0:
            forget_after(self.folder, name, loop.step)
        evaluate = self.evaluator(name) if self.found.validation else None
        loop.run(dealt(plan, collate), evaluate)
        self.gather_dropped(folder)
        if rank() == 0:
            self.finish(name, loop, found.about(plan))
        wait_for_all()

    def about(self) -> dict[str, Any]:
        """Return the content of data.json by now."""
        path = self.folder / "data.json"
        cure = "Delete it: what was left out before the run was stopped is then not counted."
        found = read_json(path, cure) if path.exists() else {}
        if not isinstance(found.get("places", {}), dict):
            raise ConfigError(f"{path} has no object in 'places'. {cure}")
        return found

    def tell_left_out(self) -> None:
        """Say on the screen what was left out, when it has become more."""
        counts = self.found.dropped.counts()
        if rank() == 0 and counts != self.reported:
            say(f"Left out: {self.found.dropped}. data.json names all places.")
        self.reported = counts

    def gather_dropped(self, folder: Path) -> None:
        """Tell the first process what the others left out."""
        if rank():
            path = folder / f"dropped-{rank()}.json"
            write_json(path, self.found.dropped.places)
        wait_for_all()
        for path in sorted(folder.glob("dropped-*.json")) if rank() == 0 else ():
            self.found.dropped.merge(read_json(path, "Delete it and repeat the command."))
            path.unlink()

    def loop(self, name: str, stage: Stage, steps: int) -> Loop:
        task = Listening(self.model)
        config = LoopConfig.of(
            stage,
            steps,
            self.recipe,
            rates=stages.rates(stage),
            device=self.device,
            strategy=self.recipe.strategy,
            log_every=self.recipe.log_every,
            keep=self.recipe.keep,
        )
        return Loop(task, config, self.folder / name, write=lambda row: self.write(name, row))

    def cache(self, stage: Stage, found: Gathered) -> FrameCache | None:
        """Return the frames of all clips, encoded now where they are not there yet."""
        if not stage.cache:
            return None
        cache = cache_in(Path(self.recipe.frames), self.model.audio_tower)
        fill(cache, found, self.recipe, self.model)
        return cache

    def scale(self, collate: Collator, plan: Plan | StreamPlan) -> None:
        """Give a fresh projector's output the scale of the decoder's embeddings, on real clips."""
        batch = collate(worst(plan))
        if batch is not None:
            with torch.no_grad():
                audio: Any = batch.to(self.model.device).audio
                frames = self.model.audio_tower(audio) if collate.cache is None else audio
                scale_projector(self.model, (frames[0], frames[1]))

    def start(
        self,
        name: str,
        stage: Stage,
        made: stages.Table,
        loop: Loop,
        collate: Collator,
        plan: Plan | StreamPlan,
    ) -> None:
        """Compute the worst legal batch first: what does not fit fails now, not in hour nine."""
        batch = collate(worst(plan))
        peak = loop.rehearse(batch)
        with loop.spread.gathered():
            scale = loudness(self.model, batch) if batch else None
        loop.log(
            {
                "kind": "start",
                "trainable": {part: row["trainable"] for part, row in made.items()},
                "embedding_scale": scale,
                "worst_batch_s": batch.audio_s if batch else 0.0,
                "peak_memory": peak,
            }
        )

    def evaluator(self, name: str) -> Callable[[], dict[str, Any]]:
        recipe = self.recipe
        clips, dropped = self.found.validation, self.found.dropped
        evaluation = Evaluation(self.model, clips, recipe.data, recipe.seed, dropped)

        def evaluate() -> dict[str, Any]:
            row = evaluation()
            if rank():
                return row
            best = self.folder / name / "best"
            note, cure = best / "wer.json", "Delete it: the next evaluation counts as the best."
            known = read_any_json(note, cure) if note.exists() else None
            if known is not None and not isinstance(known, (int, float)):
                raise ConfigError(f"{note} holds no number. {cure}")
            if row["wer"] is not None and (known is None or row["wer"] < known):
                save(self.model, best)
                write_json(note, row["wer"])
            return row

        return evaluate

    def write(self, stage: str, row: dict[str, Any]) -> None:
        """Give a row of metrics.jsonl to all who want it."""
        row = {"stage": stage, **row}
        append_json(self.folder / "metrics.jsonl", row)
        self.track(row)
        if self.watch:
            self.watch(row)

    def write_tables(self, folder: Path, made: stages.Table, about: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        write_json(folder / "table.json", made)
        write_json(self.folder / "data.json", about)

    def finish(self, name: str, loop: Loop, about: dict[str, Any]) -> None:
        """Record the hand-over to the next stage."""
        done = {"step": loop.step, "elapsed_s": loop.elapsed_s, "began_from": loop.origin}
        write_json(self.folder / name / "done.json", done)
        write_json(self.folder / "data.json", about)
        draw_curves(self.folder)


def starting_model(recipe: Setting, device: str) -> AudioLM:
    """Return a checkpoint as it is, or pretrained parts with a fresh projector."""
    model = checkpoint_or_parts(recipe.model, device)
    if device == "cpu":
        # Of 80 positions: nano's decoder forward and backward 98 ms for 20 clips, with sdpa 160.
        decoder: Any = model.language_model
        decoder.set_attn_implementation("eager")
    return model


def checkpoint_or_parts(config: ModelConfig, device: str) -> AudioLM:
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    if config.checkpoint:
        model = load_checkpoint(shipped(config.checkpoint), dtype=dtype, device=device)
        model.config.decoding_config = None  # was measured for the weights as they were
        return model
    own = {"encoder": str(NANO / "encoder"), "decoder": str(NANO / "decoder")}
    encoder, decoder = (
        own[part] if source == "nano" else source
        for part, source in (("encoder", config.encoder), ("decoder", config.decoder))
    )
    chosen = preset(config.preset).with_sources(encoder, decoder)
    if config.projector:
        chosen = replace(chosen, projector=projector_config(config.projector))
    return chosen.build(dtype=dtype, device=device)


def num_steps(stage: Stage, plan: Plan | StreamPlan) -> int:
    """Return the steps of a stage; 0 where minutes decide."""
    if not stage.epochs:
        return stage.steps
    return max(1, round(stage.epochs * plan.steps_per_epoch()))  # of few clips: not none


def dealt(
    plan: Plan | StreamPlan, collate: Collator
) -> Callable[[State], Iterator[tuple[Sequence[Batch | None], State]]]:
    """Deal every n-th micro-batch of a step to each process; where one has fewer, it computes
    another batch that counts for nothing, for with FSDP2 all must take part in every layer.
    """

    def steps(state: State) -> Iterator[tuple[Sequence[Batch | None], State]]:
        spare: Batch | None = None
        for step, after in plan.steps(state):
            own = [collate(visits) for visits in step[rank() :: world_size()]]
            own += [None] * (-(-len(step) // world_size()) - len(own))
            spare = next((batch for batch in own if batch), spare) or collate(step[0])
            yield [batch or (spare and spare.idle()) for batch in own], after

    return steps


@torch.no_grad()
def loudness(model: AudioLM, batch: Batch) -> float:
    """Return the root mean square of audio embeddings over that of the decoder's own (trap T27)."""
    batch = batch.to(model.device)
    embeds = Listening(model).embed(batch)
    is_audio = model.is_audio(batch.ids_BL)
    table: Any = model.get_input_embeddings()
    return float(
        embeds[is_audio].float().square().mean().sqrt()
        / table.weight.float().square().mean().sqrt()
    )
