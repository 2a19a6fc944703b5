"""A result is believed when the predictions beside it give it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_audio.evaluate.evaluator import PREDICTIONS, RESULT
from tiny_audio.evaluate.metrics import Utterance
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.result import FORMAT, Result
from tiny_audio.evaluate.saved import Saved
from tiny_audio.files import differences, read_json
from tiny_audio.model.errors import ConfigError

PROVED = ("dataset", "normalizer", "scores", "counters", "speed")
AGAIN = "Score it anew: tiny-audio score"


def prove(folder: Path) -> tuple[Result, list[Utterance]]:
    """Return the result of a run's folder (or result.json) and the utterances it was made from.

    `ConfigError` where there is none, where it is of another version of the normaliser, or where
    the predictions give other figures: one of the two was changed.
    """
    folder = folder.parent if folder.name == RESULT else folder
    if not (folder / RESULT).is_file() or not (folder / PREDICTIONS).is_file():
        raise ConfigError(
            f"{folder} is no evaluation: it needs {RESULT} and {PREDICTIONS}. Type: tiny-audio "
            f"eval MODEL --dataset NAME --out {folder}"
        )
    result = read_json(folder / RESULT, "Delete it; the same evaluation again writes it anew.")
    if result.get("format") != FORMAT:
        raise ConfigError(
            f"{folder / RESULT} has the format {result.get('format')!r}, not {FORMAT!r}."
        )
    found, table = Saved.read(folder).score(normalizer(result["normalizer"]["id"]))
    kept, again = (_rounded({key: one[key] for key in PROVED}) for one in (result, found))
    if changed := differences(kept, again):
        raise ConfigError(
            f"{folder / RESULT} is not what {PREDICTIONS} gives ({'; '.join(changed[:3])}). "
            f"{AGAIN} {folder}"
        )
    return result, table


def _rounded(value: Any) -> Any:
    """Round floats to nine places: sums of another numpy may differ in the last one."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return round(value, 9) if isinstance(value, float) else value
