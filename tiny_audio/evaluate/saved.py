"""Reading predictions that were kept: of a run (its folder or its file), or of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_audio.evaluate.evaluator import PREDICTIONS, RUN, read_run
from tiny_audio.evaluate.metrics import Utterance, utterances
from tiny_audio.evaluate.normalize import DEFAULT, Normalizer, check_same, normalizer
from tiny_audio.evaluate.predictions import Fields, Prediction, read_predictions
from tiny_audio.evaluate.result import Result, make_result


@dataclass(frozen=True)
class Saved:
    """Predictions, and the run.json of the run that wrote them, if one did."""

    path: Path
    predictions: list[Prediction]
    run: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path, foreign: Fields | None = None) -> Saved:
        """Read a run's folder, or a file of predictions; `foreign` for those of another program."""
        file = path / PREDICTIONS if path.is_dir() else path
        beside = file.with_name(RUN)
        ours = foreign is None and file.name == PREDICTIONS and beside.is_file()
        return cls(path, read_predictions(file, foreign), read_run(beside) if ours else None)

    def table(self, normal: Normalizer) -> list[Utterance]:
        return utterances(self.predictions, normal)

    def score(self, normal: Normalizer) -> tuple[Result, list[Utterance]]:
        """Return the result, and the utterances that it was made from."""
        table = self.table(normal)
        return make_result(table, normal, self.run), table


def common_normalizer(all_: Sequence[Saved], given: str | None) -> Normalizer:
    """Return the normaliser that was asked for, else the one that all runs share."""
    if given is not None:
        return normalizer(given)
    runs = [saved.run for saved in all_ if saved.run is not None]
    for run in runs[1:]:
        check_same(runs[0], run)
    return normalizer(runs[0]["normalizer"]["id"] if runs else DEFAULT)
