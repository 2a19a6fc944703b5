"""Checking exported files against this library, with golden vectors and with clips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from tiny_audio.data.examples import SourceConfig
from tiny_audio.evaluate.evaluator import PREDICTIONS, RunConfig, evaluate
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.systems import OurModel, readable
from tiny_audio.export.onnx import OnnxAudio
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.checkpoint import load
from tiny_audio.model.identity import golden
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import shipped

TOLERANCE = 1e-3  # of a stage: largest difference over the root mean square of what was expected


@dataclass(frozen=True)
class Replayed:
    """The differences between a written model and this one, stage by stage and in texts."""

    differences: dict[str, float]
    clips: int = 0
    equal: int = 0  # texts that are the same to the letter
    wer: tuple[float, float] | None = None  # here, there

    @property
    def good(self) -> bool:
        return max(self.differences.values()) <= TOLERANCE and self.equal == self.clips

    def lines(self) -> list[str]:
        """Return the lines to print."""
        lines = [f"{stage}: largest difference {d:.1e}" for stage, d in self.differences.items()]
        if self.wer is not None:
            here, there = (f"{100 * rate:.2f} %" for rate in self.wer)
            lines.append(f"{self.equal} of {self.clips} texts are equal; WER {here} → {there}")
        return lines


def distance(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference, over the root mean square of what was expected."""
    return float((expected - found).abs().max() / expected.square().mean().sqrt())


def replay_merged(source: str, folder: Path) -> Replayed:
    """Compare the golden vectors of a checkpoint with those of its merged copy."""
    before, after = golden(load(shipped(source))), golden(load(folder))
    return Replayed({stage: distance(before[stage], after[stage]) for stage in before})


@contextmanager
def through(model: AudioLM, audio: OnnxAudio) -> Iterator[None]:
    """Let a model take its audio embeddings from a graph while the block runs."""
    model.__dict__["embed_audio"] = audio
    try:
        yield
    finally:
        del model.__dict__["embed_audio"]


def replay_onnx(model: AudioLM, graph: Path) -> Replayed:
    """Compare the audio embeddings of the golden second, and the logits after them."""
    before = golden(model)
    with through(model, OnnxAudio(model, graph)):
        after = golden(model)
    return Replayed({stage: distance(before[stage], after[stage]) for stage in ("audio", "logits")})


def replay_clips(
    model: AudioLM, graph: Path, source: SourceConfig, clips: int, folder: Path
) -> Replayed:
    """Compare stages and the texts of some clips of a source; both evaluations stay in a folder."""
    config = RunConfig(name=readable(source.path), source=source, max_samples=clips)
    system = OurModel("here", Transcriber(model))
    here, _ = evaluate(system, config, folder / "here")
    with through(model, OnnxAudio(model, graph)):
        there, _ = evaluate(system, config, folder / "there")
    texts = [
        {one.id: one.hyp for one in read_predictions(folder / name / PREDICTIONS)}
        for name in ("here", "there")
    ]
    equal = sum(texts[0][id_] == texts[1][id_] for id_ in texts[0])
    wer = (here["scores"]["wer"]["rate"], there["scores"]["wer"]["rate"])
    return replace(replay_onnx(model, graph), clips=len(texts[0]), equal=equal, wer=wer)
