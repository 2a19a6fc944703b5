"""Gathering the clips of a run: reading, splitting by speaker, mixing, counting, caching."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tiny_audio.data.augment import Augment, coloured_noise
from tiny_audio.data.examples import Dropped, Example, Limits, read_source, refuse
from tiny_audio.data.mixture import (
    DataConfig,
    Mixture,
    Plan,
    StreamPlan,
    Visit,
    cut,
    planned_s,
    split_by_speaker,
)
from tiny_audio.data.stream import ExampleStream
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.configuration import LONGEST_NAME, LONGEST_QUESTION, MOST_TASKS
from tiny_audio.model.errors import AudioError, ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import Turn, encode_text, render, transcription_turns
from tiny_audio.progress import progress
from tiny_audio.train.batch import cached_key, changed, recorded
from tiny_audio.train.distributed import rank, wait_for_all, world_size
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.recipe import Recipe, Setting, Stage

NONSPEECH = "nonspeech"
NUM_NONSPEECH = 256


@dataclass
class Gathered:
    """The clips of a run, and what was left out."""

    train: dict[str, list[Example]]
    validation: list[Example]
    weights: dict[str, float]
    dropped: Dropped = field(default_factory=Dropped)
    speakers_apart: list[str] = field(default_factory=list)
    stream: ExampleStream | None = None

    def about(self, plan: Plan | StreamPlan) -> dict[str, Any]:
        """Return the content of data.json."""
        known = {e.text for examples in self.train.values() for e in examples}
        streamed = {self.stream.name: self.stream.most_kept} if self.stream else {}
        return {
            "kept": {n: len(e) for n, e in self.train.items()} | streamed,
            "hours": {n: sum(x.duration_s for x in e) / 3600 for n, e in self.train.items()},
            **self.left_out(),
            "validation_clips": len(self.validation),
            "validation_speakers": self.speakers_apart,
            "shared_texts": sum(e.text in known for e in self.validation),
            "padding": waste(plan),
        }

    def left_out(self) -> dict[str, Any]:
        """Return the part of data.json that grows while clips are decoded."""
        return {"dropped": dict(self.dropped.counts()), "places": self.dropped.places}

    def refuse_empty(self) -> None:
        if empty := sorted(name for name, listed in self.train.items() if not listed):
            raise ConfigError(
                f"The source {empty[0]!r} has no usable clip. What was left out: {self.dropped}. "
                f"The columns it reads are data.sources.{empty[0]}.audio and .text."
            )


def gather(recipe: Setting, model: AudioLM) -> Gathered:
    """Read all sources. `strict` refuses the run where anything was left out, and decodes all."""
    config, dropped = recipe.data, Dropped()
    if not config.sources:
        raise ConfigError("The recipe names no clips to train on; give data.sources.NAME.path.")
    limits = Limits(config.min_s, longest_s(model, config), config.text_style)
    read = functools.partial(read_source, limits=limits, dropped=dropped)
    train = {n: read(n, s) for n, s in config.sources.items() if not s.streaming}
    validation = [
        example
        for name, source in config.validation.items()
        for example in usable(name, read(name, source), dropped)
    ]
    found = Gathered(train, validation, {n: s.weight for n, s in config.sources.items()}, dropped)
    if any(source.streaming for source in config.sources.values()):
        found.stream = stream_of(config, limits, dropped)
        return found
    if config.validation_speakers and not config.validation:
        set_apart(found, config.validation_speakers, recipe.seed)
    if config.strict:
        every = [e for examples in found.train.values() for e in examples]
        decode_all(every + found.validation, dropped)
        refuse(dropped)
    found.refuse_empty()
    if config.nonspeech:
        found.train[NONSPEECH] = [nothing(number) for number in range(NUM_NONSPEECH)]
        found.weights[NONSPEECH] = config.nonspeech
    return found


def tasks_of(model: AudioLM, recipe: Setting, found: Gathered) -> dict[str, str]:
    """Return the tasks that the model knows after this training, each with one of its questions.

    A task is called what the column `task` of a manifest says, else after the source.
    """
    tasks = dict(model.config.tasks or {})
    for name, source in recipe.data.sources.items():
        asked = {str(e.columns.get("task") or name): e.prompt for e in found.train.get(name, [])}
        for task, question in (asked or {name: source.prompt}).items():
            if question and len(question) <= LONGEST_QUESTION and len(tasks) < MOST_TASKS:
                tasks.setdefault(task[:LONGEST_NAME], question)
    return tasks


def usable(name: str, examples: list[Example], dropped: Dropped) -> list[Example]:
    """Return the clips of a validation source, which must not be empty."""
    if not examples:
        raise ConfigError(
            f"The validation source {name!r} has no usable clip. What was left out: {dropped}. "
            f"The columns it reads are data.validation.{name}.audio and .text."
        )
    return examples


def stream_of(config: DataConfig, limits: Limits, dropped: Dropped) -> ExampleStream:
    """Return the one stream of a run. What needs all clips beforehand is refused, not left out."""
    (name, source), *others = config.sources.items()
    asked: dict[str, Any] = {"validation_speakers": config.validation_speakers}
    asked |= {"strict": config.strict, "nonspeech": config.nonspeech, "another source": others}
    asked |= {f"data.sources.{name}.weight": source.weight}
    if unable := [what for what, value in asked.items() if value]:
        raise ConfigError(
            f"A stream cannot be used with {' and '.join(unable)}; set streaming=false."
        )
    return ExampleStream(name, source, limits, dropped)


def longest_s(model: AudioLM, config: DataConfig) -> float:
    """Return the longest clip: the encoder's window, unless a prompt may take several windows."""
    window = model.config.encoder.max_samples
    if window is None or model.config.prompt.long_audio != "error":
        return config.max_s
    return min(config.max_s, window / SAMPLE_RATE)


def set_apart(found: Gathered, num_speakers: int, seed: int) -> None:
    everything = [e for examples in found.train.values() for e in examples]
    _, apart, speakers = split_by_speaker(everything, num_speakers, seed)
    found.validation += apart
    found.speakers_apart = speakers
    for name, examples in found.train.items():
        found.train[name] = [e for e in examples if e.speaker not in speakers]


def decode_all(examples: Sequence[Example], dropped: Dropped) -> None:
    """Decode all clips, to find what no header shows."""

    def check(example: Example) -> None:
        try:
            example.sound.samples()
        except AudioError as error:
            dropped.add(error.reason, example.where)

    with ThreadPoolExecutor() as pool, progress() as bar:
        list(bar.track(pool.map(check, examples), len(examples), description="decoding all"))


@dataclass(frozen=True)
class Nothing:
    """Noise or silence, whose text is empty."""

    number: int

    def samples(self) -> np.ndarray:
        rng = np.random.default_rng([762, self.number])
        noise = coloured_noise(int(self.duration_s * SAMPLE_RATE), rng)
        return noise * np.float32(10 ** (rng.uniform(-90, -25) / 20))

    @property
    def duration_s(self) -> float:
        return 0.3 + 3.7 * (self.number % 64) / 64

    def digest(self) -> str:
        return f"nothing {self.number}"


def nothing(number: int) -> Example:
    sound = Nothing(number)
    return Example(f"{NONSPEECH}:{number}", "", sound.duration_s, sound, source=NONSPEECH)


class Cost:
    """The most positions of the decoder that a clip takes: prompt, audio, answer and stop token."""

    def __init__(self, model: AudioLM, stretch: float = 0.0, how: Augment | None = None):
        self.model, self.stretch, self.how = model, stretch, how
        self._fixed: dict[tuple[str, int], int] = {}
        self._texts: dict[str, int] = {}

    def __call__(self, example: Example) -> int:
        num_clips = 1 + len(example.more)
        audio = sum(map(self._audio, example.parts()))
        return audio + self._asked(example.prompt, num_clips) + self._answer(example.text)

    def _audio(self, example: Example) -> int:
        config = self.model.config
        own, planned = (
            int(s * SAMPLE_RATE) for s in (example.duration_s, planned_s(example, self.how))
        )
        most = config.encoder.max_samples or planned  # what becomes longer is used as recorded
        frames = config.encoder.frames_for(max(1, own, min(planned, most)))
        frames = math.ceil(frames * (1 + self.stretch))
        return config.projector.positions_for(frames)

    def _asked(self, prompt: str, num_clips: int) -> int:
        """Count the tokens of a question; `PromptError` where its clips are not as many."""
        if (prompt, num_clips) not in self._fixed:
            config, asked = self.model.config.prompt, prompt or None
            turns = [*transcription_turns(config, asked, num_clips), ANSWER]
            made = render(turns, [0] * num_clips, self.model.tokenizer, config)
            self._fixed[prompt, num_clips] = len(made.ids)
        return self._fixed[prompt, num_clips]

    def _answer(self, text: str) -> int:
        if text not in self._texts:
            self._texts[text] = len(encode_text(text, self.model.tokenizer))
        return self._texts[text]


ANSWER = Turn("assistant", "")


def plan_of(found: Gathered, recipe: Recipe, stage: Stage, model: AudioLM) -> Plan | StreamPlan:
    """Return the order of the clips in a stage."""
    if odd := sorted(set(stage.weights) - set(recipe.data.sources)):
        raise ConfigError.unknown(odd[0], recipe.data.sources, "The table of sources")
    cost = Cost(model, stage.frame_stretch, recipe.data.augment)
    if found.stream is not None:
        if stage.weights:
            raise ConfigError("A stream is the only source of its run: remove the stage's weights.")
        return StreamPlan(found.stream, recipe.data, cost, recipe.seed)
    weights = {**found.weights, **stage.weights}
    mixture = Mixture(found.train, weights, recipe.seed, recipe.data.block)
    return Plan(mixture, recipe.data, cost)


def waste(plan: Plan | StreamPlan) -> float:
    """Return the share of padding among the decoder's positions in the first block of clips."""
    batches = [batch for step in plan.steps_of(0) for batch in step]
    costs = [[plan.cost(v.example) for v in batch] for batch in batches]
    padded = sum(len(c) * max(c) for c in costs)
    return 1 - sum(map(sum, costs)) / padded


# Cached frames --------------------------------------------------------------------------------


def copies_of(recipe: Setting) -> dict[str, int]:
    """Return the number of cached versions of a clip by source; without augmentation it is one."""
    if recipe.data.augment is None:
        return {}
    return {name: source.copies for name, source in recipe.data.sources.items()}


def fill(cache: FrameCache, found: Gathered, recipe: Setting, model: AudioLM) -> None:
    """Encode what the cache lacks, shared by the processes; unusable clips leave the run."""
    if found.stream is not None:
        raise ConfigError("The frames of a stream cannot be cached: set the stage's cache=false.")
    key = functools.partial(cached_key, how=recipe.data.augment, copies=copies_of(recipe))
    examples = [part for listed in found.train.values() for e in listed for part in e.parts()]
    examples.sort(key=lambda e: e.duration_s)
    own = {key(v): v for e in examples[rank() :: world_size()] for v in turns(e, recipe)}
    batches = cut([v for k, v in own.items() if k not in cache], recipe.data, lambda e: 1)
    most = model.config.encoder.max_samples
    decode = functools.partial(decode_copies, recipe=recipe, dropped=found.dropped, most=most)
    with ThreadPoolExecutor(1) as pool, progress(disable=rank() > 0) as bar:
        made = one_ahead(pool, decode, batches)
        for decoded in bar.track(made, len(batches), description="listening once"):
            frames = encode([clip for _, clip in decoded], recipe, model)
            cache.add(zip([key(visit) for visit, _ in decoded], frames, strict=True))
    cache.flush()
    wait_for_all()
    cache.refresh()
    for name, listed in found.train.items():
        found.train[name] = [
            e
            for e in listed
            if all(key(v) in cache for part in e.parts() for v in turns(part, recipe))
        ]
    found.refuse_empty()


Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(
    pool: Executor, work: Callable[[Item], Made], items: Iterable[Item]
) -> Iterator[Made]:
    """Do what `pool.map` does, but make only one result before it is asked for: sound is large."""
    waiting: Future[Made] | None = None
    for item in items:
        following = pool.submit(work, item)
        if waiting:
            yield waiting.result()
        waiting = following
    if waiting:
        yield waiting.result()


def turns(example: Example, recipe: Setting) -> list[Visit]:
    """Return one visit for every version of a clip that is kept."""
    return [Visit(example, n, n) for n in range(copies_of(recipe).get(example.source, 1))]


def decode_copies(
    visits: Sequence[Visit], recipe: Setting, dropped: Dropped, most: int | None
) -> list[tuple[Visit, Tensor]]:
    """Decode every clip once, and change each of its copies in its own way: the seed follows from
    sound and copy.
    """
    decoded, copies = [], copies_of(recipe)
    for example, wanted in itertools.groupby(visits, lambda visit: visit.example):
        try:
            samples = recorded(example, most)
        except AudioError as error:
            dropped.add(error.reason, example.where)
            continue
        for visit in wanted:
            how = recipe.data.augment if visit.repeat else None  # the first is as recorded
            seed = int(cached_key(visit, recipe.data.augment, copies)[:8], 16)
            decoded.append((visit, torch.from_numpy(changed(samples, seed, how, most))))
    return decoded


@torch.no_grad()
def encode(clips: Sequence[Tensor], recipe: Setting, model: AudioLM) -> list[Tensor]:
    """Return the frames (T, E) of each clip."""
    if not clips:
        return []
    made = model.audio_tower.features([clip.to(model.device) for clip in clips])
    with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        frames_BTE, lengths_B = model.audio_tower(made)
    return [f[:n] for f, n in zip(frames_BTE, lengths_B.tolist(), strict=True)]
