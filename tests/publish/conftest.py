"""One small run and one evaluation of its model, for all tests of publishing."""

from pathlib import Path
from typing import NamedTuple

import pytest
import toy_runs

from tiny_audio.data.examples import SourceConfig
from tiny_audio.evaluate.evaluator import RunConfig, evaluate
from tiny_audio.evaluate.systems import OurModel
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.presets import load
from tiny_audio.train.run import train

# Toy parts and clips lie in a folder of the test: nobody knows under which licence.
LICENCES = ["model=mit", "encoder=mit", "decoder=mit", "data.clips=cc0-1.0"]


class Trained(NamedTuple):
    """A finished run, the folder of its evaluation, and one of its clips."""

    run: Path
    result: Path
    clip: Path

    def options(self, *more: str) -> list[str]:
        given = [word for one in LICENCES for word in ("--licence", one)]
        return [str(self.run), *given, *more]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    root = tmp_path_factory.mktemp("published")
    recipe = toy_runs.validated(toy_runs.recipe(root, steps=6))
    run = train(recipe)
    system = OurModel("toy", Transcriber(load(run / "model")))
    source = SourceConfig(path=str(root / "clips" / "train.jsonl"))
    evaluate(system, RunConfig(name="toy clips", source=source), root / "eval")
    return Trained(run, root / "eval", root / "clips" / "7.flac")
