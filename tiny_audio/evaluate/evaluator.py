"""An evaluation as a folder: run.json says what is run, predictions.jsonl grows by one line a clip,
and result.json is made of both at the end.

A run that was killed goes on where it stopped, if it is the same run: the same batches are made
again, those that are there are passed over, and a batch that was half written is answered once
more, so that the texts are those of a run that nobody killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiny_audio.data.examples import Dropped, Example, SourceConfig
from tiny_audio.data.sounds import FileSound
from tiny_audio.evaluate.clips import batches, choose, identifier
from tiny_audio.evaluate.metrics import Utterance, utterances
from tiny_audio.evaluate.normalize import DEFAULT, Normalizer, normalizer
from tiny_audio.evaluate.predictions import Prediction, lines_of, mend, read_predictions
from tiny_audio.evaluate.provenance import made
from tiny_audio.evaluate.result import Result, clips_hash, make_result
from tiny_audio.evaluate.robustness import degraded
from tiny_audio.evaluate.systems import Answer, MultiClipSystem, System, failure
from tiny_audio.files import differences, held, read_json, write_json
from tiny_audio.model.config import fingerprint
from tiny_audio.model.errors import AudioError, ConfigError

RUN_FORMAT = "tiny-audio run 1"
PREDICTIONS, RUN, RESULT = "predictions.jsonl", "run.json", "result.json"
# What a run may not change between two sittings. How much is answered at once, it may.
FIXED = ("format", "task", "system", "dataset", "normalizer", "prompt", "seed")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The settings of an evaluation. `name` is the dataset's in results; `where`: COLUMN=VALUE."""

    name: str
    source: SourceConfig
    where: tuple[str, ...] = ()
    max_samples: int = 0  # 0: all
    prompt: str = ""  # instead of the model's own instruction
    seed: int = 42
    condition: str = ""  # that makes the clips worse, as in robustness.py
    normalizer: str = DEFAULT
    batch_s: float = 60.0


class Watch:
    """An observer of an evaluation; `view.Lines` prints."""

    def resumed(self, table: Sequence[Utterance]) -> None:
        """Take the clips that were answered before."""

    def sample(self, utterance: Utterance) -> None:
        """Take a clip that was answered just now."""


def evaluate(
    system: System, config: RunConfig, folder: Path | None = None, watch: Watch | None = None
) -> tuple[Result, Path]:
    """Answer all clips that are not answered yet; return the result, and the folder that holds it.

    Without `folder` it is one under runs/eval that only the same run has.
    """
    watch, normal, dropped = watch or Watch(), normalizer(config.normalizer), Dropped()
    examples = choose(config.source, config.where, config.seed, config.max_samples, dropped)
    if config.condition:
        examples = degraded(examples, config.source, config.condition, config.seed)
    run = describe(system, config, normal, examples)
    folder = folder or default_folder(run)
    with held(folder):
        run = begin(folder, run)
        answer_missing(system, config, examples, folder / PREDICTIONS, normal, watch)
        write_json(folder / RUN, {**run, "dropped": dict(dropped.counts())})
        return finish(folder, normal), folder


def describe(
    system: System, config: RunConfig, normal: Normalizer, examples: Iterable[Example]
) -> dict[str, Any]:
    """Return the content of run.json. The clips of a stream are not known before it was read."""
    about, source = system.about(), config.source
    clips = ((identifier(e, source), e.text, e.duration_s) for e in examples)
    return {
        "format": RUN_FORMAT,
        "task": "transcription",
        "system": about,
        "dataset": {
            "name": config.name,
            "split": source.split,
            "where": list(config.where),
            "max_samples": config.max_samples,
            "condition": config.condition,
            "clips_sha256": None if source.streaming else clips_hash(clips),
        },
        "normalizer": normal.to_dict(),
        "prompt": config.prompt,
        "seed": config.seed,
        "batch_s": config.batch_s,
        "made": made(str(about.get("device", "cpu"))),
    }


def default_folder(run: Mapping[str, Any]) -> Path:
    """Return runs/eval/MODEL-DATASET-HASH, with the hash of all that makes the run this one."""
    names = f"{run['system']['name']}-{run['dataset']['name']}"
    readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in names)
    return Path("runs") / "eval" / f"{readable}-{fingerprint(fixed(run))[:8]}"


def fixed(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of run.json that tells this run from every other."""
    return {key: run[key] for key in FIXED}


def begin(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Write run.json, or continue with the one that is there if it is the same run."""
    if not (folder / RUN).is_file():
        if (folder / PREDICTIONS).exists():
            raise ConfigError(f"{folder} has {PREDICTIONS} but no {RUN}; give another --out.")
        write_json(folder / RUN, run)
        return run
    before = read_run(folder / RUN)
    if found := differences(fixed(before), fixed(run)):
        raise ConfigError(
            f"{folder} holds another run ({'; '.join(found)}). Give another --out, or delete it."
        )
    return before


def read_run(path: Path) -> dict[str, Any]:
    """Return the content of run.json."""
    cure = f"The run cannot be continued: give another --out, or delete {path.parent}."
    run = read_json(path, cure)
    if run.get("format") != RUN_FORMAT:
        raise ConfigError(
            f"{path} has the format {run.get('format')!r}, not {RUN_FORMAT!r}. {cure}"
        )
    return run


def answer_missing(
    system: System,
    config: RunConfig,
    examples: Iterable[Example],
    path: Path,
    normal: Normalizer,
    watch: Watch,
) -> None:
    """Append a line for every clip that has none; each is on disk before the next one is shown."""
    mend(path)
    there = list(lines_of(path))
    if there:
        watch.resumed(utterances(there, normal))
    done = {prediction.id for prediction in there}
    del there
    with path.open("a", encoding="utf-8") as file:
        for batch in batches(examples, config.batch_s):
            if done.issuperset(identifier(example, config.source) for example in batch):
                continue
            for prediction in predict(system, config, batch):
                if prediction.id not in done:
                    file.write(prediction.to_line())
                    file.flush()
                    watch.sample(utterances([prediction], normal)[0])


def predict(system: System, config: RunConfig, batch: Sequence[Example]) -> Iterator[Prediction]:
    """Yield the predictions of one batch. A clip that cannot be read fails alone."""
    clips, found = dict[int, list[Tensor]](), dict[int, Answer]()
    for n, example in enumerate(batch):
        try:
            clips[n] = [torch.from_numpy(part.sound.samples()) for part in example.parts()]
        except AudioError as error:
            found[n] = failure(error)
    asked = [example.prompt or config.prompt for example in batch]
    start = time.perf_counter()
    single = [n for n in clips if len(clips[n]) == 1]
    if single:
        answers = system.answer([clips[n][0] for n in single], [asked[n] for n in single])
        found |= zip(single, answers, strict=True)
    found |= {n: _about_several(system, clips[n], asked[n]) for n in clips if n not in found}
    share_s = (time.perf_counter() - start) / max(1, len(clips))
    for n, example in enumerate(batch):
        seconds = share_s if n in clips else 0.0
        yield _prediction(example, config.source, asked[n], found[n], seconds)


def _about_several(system: System, clips: Sequence[Tensor], asked: str) -> Answer:
    """Return the answer to a question about several clips, where the system answers such ones."""
    if isinstance(system, MultiClipSystem):
        return system.ask(clips, asked)
    name = system.about()["name"]
    return failure(
        ConfigError(f"{name} answers questions about one clip; this one has {len(clips)}.")
    )


def _prediction(
    example: Example, source: SourceConfig, asked: str, answer: Answer, seconds: float
) -> Prediction:
    sound = example.sound
    return Prediction(
        id=identifier(example, source),
        ref=example.text,
        hyp=answer.text,
        outcome=answer.outcome,
        duration_s=round(example.duration_s, 3),
        seconds=round(seconds, 5),
        error=answer.error,
        audio=str(Path(sound.name).resolve()) if type(sound) is FileSound else "",
        prompt=asked,
        confidence=answer.confidence,
        columns=example.columns,
    )


def finish(folder: Path, normal: Normalizer) -> Result:
    """Score what is there and write result.json; `score` finds the same."""
    table = utterances(read_predictions(folder / PREDICTIONS), normal)
    result = make_result(table, normal, read_run(folder / RUN))
    write_json(folder / RESULT, result)
    return result
