"""The picture of a run, and where else its rows go."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_audio.model.errors import ConfigError, MissingExtra
from tiny_audio.train.curves import REAL, SHUFFLED, SILENT, axis, draw_curves
from tiny_audio.train.track import TRACKERS, numbers, read_metrics, tracker

Row = dict[str, Any]


def rows(stage: str, steps: int = 100, evaluations: bool = True) -> list[Row]:
    """Ten training rows, half a second a step, and two evaluations."""
    found: list[Row] = [
        {"kind": "start", "stage": stage, "step": 0, "elapsed_s": 0.0, "trainable": {"decoder": 1}}
    ]
    for step in range(steps // 10, steps + 1, steps // 10):
        head = {"stage": stage, "step": step, "elapsed_s": step / 2}
        loss = 3 * math.exp(-step / 50)
        measured = {"loss": loss, "token_accuracy": 0.5, "norm": 1.0, "learning_rate": 1e-3}
        found.append({"kind": "train", **head, **measured})
        if evaluations and step % (steps // 2) == 0:
            losses = {"loss": loss, "loss_shuffled": 3.0, "loss_silent": 2.9, "wer": loss / 3}
            accuracies = {f"token_accuracy{k}": 0.4 for k in ("", "_shuffled", "_silent")}
            found.append({"kind": "evaluation", **head, **losses, **accuracies})
    return found


def written(folder: Path, found: list[Row]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder


def seen(picture: Path, style: Row) -> int:
    """How many pixels have a line's own colour."""
    from matplotlib import colors, image

    pixels = image.imread(picture)[..., :3]
    return int((np.abs(pixels - colors.to_rgb(style["color"])).max(-1) < 0.02).sum())


@pytest.mark.slow
@pytest.mark.parametrize("over", ["step", "minutes"])
def test_the_picture_shows_training_and_the_three_sounds(tmp_path, over):
    path = draw_curves(written(tmp_path, [*rows("projector"), *rows("adapters")]), over)
    assert path == tmp_path / "curves.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert all(seen(path, style) > 300 for style in (REAL, SHUFFLED, SILENT))


@pytest.mark.slow
@pytest.mark.parametrize("found", [[], rows("projector")[:1], rows("projector", evaluations=False)])
def test_a_run_that_has_just_begun_is_drawn_too(tmp_path, found):
    path = draw_curves(written(tmp_path, found))
    assert not any(seen(path, style) for style in (REAL, SHUFFLED, SILENT))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_a_gap(tmp_path):
    found = rows("projector")
    found[5] |= {"loss": math.nan}
    found[6] |= {"loss": math.inf}
    assert seen(draw_curves(written(tmp_path, found)), REAL) > 300


def test_stages_lie_one_after_another():
    found = [*rows("projector", 100), *rows("adapters", 40)]
    spans, place = axis(found, "step")
    assert spans == [("projector", 0.0, 100.0), ("adapters", 100.0, 140.0)]
    assert [place(row) for row in found[-2:]] == [140.0, 140.0]
    spans, place = axis(found, "minutes")
    assert [span.end for span in spans] == pytest.approx([50 / 60, 70 / 60])
    assert place(found[1]) == pytest.approx(5 / 60)


@pytest.mark.slow
def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"tiny-audio\[train\]"):
        draw_curves(written(tmp_path, rows("projector")))


# Trackers -----------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path):
    found = rows("projector")
    assert read_metrics(written(tmp_path, found)) == found


def test_numbers_are_named_by_stage_and_kind():
    row = {"kind": "evaluation", "stage": "a", "step": 3, "wer": 0.5, "clips": 7, "samples": [{}]}
    assert numbers(row | {"peak": None}) == {"a/evaluation/wer": 0.5, "a/evaluation/clips": 7}


def test_no_tracker_writes_nothing(tmp_path):
    assert tracker("", tmp_path, {})(rows("projector")[1]) is None
    assert not list(tmp_path.iterdir())


def test_an_unknown_tracker_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"no 'wandbb'. Did you mean 'wandb'"):
        tracker("wandbb", tmp_path, {})


@pytest.mark.parametrize("name", sorted(set(TRACKERS) - {""}))
def test_a_tracker_that_is_not_installed_says_what_to_type(tmp_path, monkeypatch, name):
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{name} needs .*pip install 'tiny-audio\[track\]'"):
        tracker(name, tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_tensorboard_reads_what_was_tracked(tmp_path):
    pytest.importorskip("tensorboard", reason="extra [track]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track = tracker("tensorboard", tmp_path, {"name": "toy"})
    found = rows("projector")
    for row in found:
        track(row)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    said = events.Scalars("projector/train/loss")
    trained = [row for row in found if row["kind"] == "train"]
    assert [e.step for e in said] == [row["step"] for row in trained]
    assert [e.value for e in said] == pytest.approx([row["loss"] for row in trained])


def test_wandb_stays_on_this_machine(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="extra [track]")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    track = tracker("wandb", tmp_path, {"name": "toy"})
    for row in rows("projector"):
        track(row)
    assert wandb.run.settings.mode == "offline"
    assert wandb.run.summary["projector/train/loss"] == pytest.approx(3 * math.exp(-2))
    wandb.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_stays_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio", reason="extra [track]")
    track = tracker("trackio", tmp_path / "toy", {"name": "toy"})
    for row in rows("projector"):
        track(row)
    trackio.finish()
    assert list(tmp_path.rglob("tiny-audio.db"))
