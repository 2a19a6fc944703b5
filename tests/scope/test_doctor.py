"""A healthy run and one with every symptom, written as a run writes them."""

import io
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from tiny_audio.model.errors import ConfigError
from tiny_audio.scope.doctor.diagnosis import diagnose, render
from tiny_audio.scope.doctor.log import Finding
from tiny_audio.scope.doctor.texts import repeats
from tiny_audio.scope.doctor.training import line, rise
from tiny_audio.scope.doctor.waste import DROPPED, WASTE

Row = dict[str, Any]
STEPS, EVERY = 6000, 50


def training(stage: str = "projector", **changes: Any) -> list[Row]:
    """A stage whose loss falls from 3.5 to 0.4 at step 1,500 and stays there."""
    noise = random.Random(stage)
    rows = []
    for step in range(EVERY, STEPS + 1, EVERY):
        loss = 0.4 + 3.1 / (1 + math.exp((step - 1500) / 100)) + noise.gauss(0, 0.02)
        rows.append(
            {
                "kind": "train",
                "stage": stage,
                "step": step,
                "elapsed_s": step * 0.25,
                "loss": loss,
                "token_accuracy": 1 - loss / 5,
                "norm": 0.5 + 0.1 * noise.random(),
                "learning_rate": 1e-3 * min(1, step / 500),
                "skipped": 0.0,
                "tokens": 900,
                "audio_s": 60.0,
                "padding": 0.08,
                "waiting": 0.01,
            }
            | changes
        )
    return rows


def evaluation(step: int = STEPS, stage: str = "projector", **changes: Any) -> Row:
    said = [{"text": "one two three", "hypothesis": "one two three"}] * 8
    return {
        "kind": "evaluation",
        "stage": stage,
        "step": step,
        "elapsed_s": step * 0.25,
        "clips": 200,
        "loss": 0.5,
        "loss_shuffled": 4.1,
        "loss_silent": 3.9,
        "token_accuracy": 0.9,
        "token_accuracy_shuffled": 0.35,
        "token_accuracy_silent": 0.37,
        "wer": 0.08,
        "ended": 1.0,
        "empty": 0.0,
        "samples": said,
    } | changes


def start(**changes: Any) -> Row:
    trainable = {"projector": 591_104, "encoder": 0, "decoder": 0}
    head = {"kind": "start", "stage": "projector", "step": 0, "elapsed_s": 0.0}
    return head | {"embedding_scale": 1.02, "trainable": trainable} | changes


DATA = {
    "kept": {"train": 10_000},
    "hours": {"train": 12.0},
    "dropped": {"too long": 20},
    "padding": 0.07,
    "validation_clips": 200,
    "validation_speakers": ["anna", "ben"],
    "shared_texts": 0,
}
RECIPE = {
    "name": "toy",
    "stages": {"projector": {"learning_rate": {"projector": 1e-3}, "warmup_steps": 500}},
}


class Written:
    """A run's folder; `rows` replaces all rows."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(
        self, rows: list[Row] | None = None, data: Row | None = None, recipe: Row | None = None
    ) -> list[Finding]:
        rows = [start(), *training(), evaluation()] if rows is None else rows
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "metrics.jsonl").write_text(lines)
        (self.folder / "data.json").write_text(json.dumps(DATA | (data or {})))
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | (recipe or {})))
        return diagnose(self.folder)


@pytest.fixture
def run(tmp_path: Path) -> Written:
    return Written(tmp_path)


def saying(found: list[Finding], fragment: str) -> Finding:
    """The one finding with this text."""
    (one,) = [f for f in found if fragment in f.text]
    return one


def test_a_healthy_run_is_told_that_it_is_one(run):
    found = run()
    assert {f.level for f in found} == {"ok"}
    assert "87.2 % off the loss" in saying(found, "listens").text
    assert "8 %" in saying(found, "word error rate").text
    assert "levelled off at 0.40" in saying(found, "levelled off").text


# Listening ----------------------------------------------------------------------------------------

DEAF = {"loss": 3.0, "loss_shuffled": 3.03, "loss_silent": 3.02, "wer": 1.1}
DEAF |= {"token_accuracy": 0.42, "token_accuracy_shuffled": 0.415, "token_accuracy_silent": 0.41}


def early(rows: list[Row], step: int) -> list[Row]:
    return [row for row in rows if row["step"] <= step]


def test_the_plateau_of_the_language_prior_is_told_from_a_broken_path(run):
    flat = training(loss=3.0, token_accuracy=0.42)
    evaluations = [evaluation(step, **DEAF) for step in (500, 1000)]
    soon = saying(run([start(), *early(flat, 1000), *evaluations]), "does not listen")
    assert soon.level == "wrong"
    assert "plateau of the language prior, 42 %" in soon.text
    assert "After 1,000 steps this is usual" in soon.step
    late = saying(run([start(), *flat, *evaluations, evaluation(**DEAF)]), "does not listen")
    assert "eight clips by heart" in late.step
    moving = evaluation(**DEAF | {"token_accuracy": 0.5})
    other = saying(run([start(), *flat, *evaluations, moving]), "does not listen")
    assert "plateau" not in other.text


def test_a_model_that_does_not_listen_is_not_told_that_its_loss_has_levelled_off(run):
    found = run([start(), *training(loss=3.0), evaluation(**DEAF)])
    assert not [f for f in found if "levelled" in f.text or "falling" in f.text]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(3.93, "does not listen"), (3.8, "begins to listen"), (2.5, "The model listens")],
)
def test_the_gap_is_relative_to_the_better_of_the_wrong_sounds(run, loss, expected):
    found = run([start(), *training(), evaluation(loss=loss, loss_shuffled=4.5, loss_silent=4.0)])
    assert saying(found, "listen").text.count(expected) == 1


def test_hearing_that_somebody_speaks_is_not_hearing_what(run):
    mixed_up = evaluation(loss=3.0, loss_shuffled=3.01, loss_silent=5.0)
    found = run([start(), *training(), mixed_up])
    assert "own clip" in saying(found, "not one clip from another").step


def test_a_run_without_an_evaluation_says_so(run):
    found = run([start(), *training()])
    assert "data.validation" in saying(found, "Nothing was evaluated").step
    assert not [f for f in found if f.level == "wrong"]


# Words --------------------------------------------------------------------------------------------

LOOPED = [{"text": "one two", "hypothesis": "one two two two two two"}]
FINE = [{"text": "one two", "hypothesis": "one two"}]

SYMPTOMS = {
    "good tokens, bad words": ({"wer": 0.9}, "wrong", "error rate of 90 %", "prompt and template"),
    "by heart": ({"token_accuracy": 0.6}, "wrong", "of its training clips right", "augment"),
    "few stops": ({"ended": 0.8}, "note", "80 % of the answers end", "instruct"),
    "no stops": ({"ended": 0.1}, "wrong", "10 % of the answers end", "instruct"),
    "some empty": ({"empty": 0.1}, "note", "10 % of the spoken clips", "empty texts"),
    "a fifth empty": ({"empty": 0.21}, "wrong", "21 % of the spoken clips", "empty texts"),
    "most empty": ({"empty": 0.7}, "wrong", "70 % of the spoken clips", "empty texts"),
    "a loop": ({"samples": LOOPED + 7 * FINE}, "note", "1 of 8 shown answers run", "stop"),
    "loops": ({"samples": 4 * LOOPED + 4 * FINE}, "wrong", "4 of 8 shown answers run", "stop"),
}


@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptoms_of_what_is_written(run, name):
    changes, level, seen, step = SYMPTOMS[name]
    found = run([start(), *training(), evaluation(**changes)])
    one = saying([f for f in found if seen.lower() in f.text.lower()], "")
    assert one.level == level
    assert step in one.step
    assert sum(f.level == "wrong" for f in found) == (level == "wrong")


@pytest.mark.parametrize(("steps", "level"), [(60, "note"), (1600, "note"), (STEPS, "wrong")])
def test_empty_answers_are_wrong_only_when_the_loss_has_levelled_off(run, steps, level):
    empty = evaluation(empty=0.6, wer=0.98, token_accuracy=0.35)
    found = run([start(), *training()[: steps // EVERY], empty])
    assert saying(found, "spoken clips get an empty answer").level == level


@pytest.mark.parametrize(("share", "begins"), [(0.0, "Train longer"), (0.03, "Lower data.nonspee")])
def test_empty_answers_come_from_silence_only_if_there_was_some(run, share, begins):
    rows = [start(), *training(), evaluation(empty=0.7)]
    found = run(rows, recipe={"data": {"nonspeech": share}})
    assert saying(found, "spoken clips get an empty answer").step.startswith(begins)


def test_clips_without_speech_have_no_word_error_rate(run):
    found = run([start(), *training(), evaluation(wer=None)])
    assert not [f for f in found if "word error" in f.text or f.level == "wrong"]


@pytest.mark.parametrize(
    ("hypothesis", "text", "expected"),
    [
        ("the cat the cat the cat the cat", "the cat", True),
        ("no, no, no, no, no.", "no", True),
        ("the cat the cat", "the cat", False),
        ("one one one one", "one one one one", False),
        ("seven seventy seventy-one seventies", "seven", False),
        ("", "one", False),
    ],
)
def test_a_loop_is_a_run_that_nobody_said(hypothesis, text, expected):
    assert repeats(hypothesis, text) is expected


# Whole runs ---------------------------------------------------------------------------------------


def course(*losses: float, **changes: Any) -> list[Row]:
    """Evaluations at even distances with these validation losses."""
    steps = [STEPS * number // len(losses) for number in range(1, len(losses) + 1)]
    return [evaluation(s, loss=x, **changes) for s, x in zip(steps, losses, strict=True)]


def flat(steps: int) -> list[Row]:
    """A stage of so many steps on the plateau."""
    return early(training(loss=3.0, token_accuracy=0.42), steps)


def climbing() -> list[Row]:
    rows = training(learning_rate=1e-2)
    return [r | {"loss": r["loss"] + max(0, r["step"] - 4000) / 1000} for r in rows]


KNOWN = {"token_accuracy": 0.97}  # of training clips
NEW = {"token_accuracy": 0.6, "wer": 0.55}  # of validation clips
FALLING = [row | {"loss": 3 - row["step"] / 4000} for row in training()]
# Rows of a run; the worst level it must get; what must and what must not be said of it.
RUNS: dict[str, tuple[list[Row], str, str, str]] = {
    "healthy": ([*training(), *course(2.0, 0.8, 0.5)], "ok", "listens", "longer"),
    "overfit": (
        [*training(**KNOWN), *course(0.8, 1.5, 2.0, **NEW)],
        "wrong",
        "tokens of its training clips",
        "still falls",
    ),
    "behind, and getting better": (
        [*training(**KNOWN), *course(2.5, 1.8, 1.4, **NEW)],
        "note",
        "the validation loss still falls",
        "by heart",
    ),
    "training loss up, validation loss down": (
        [*climbing(), *course(2.5, 1.0, 0.5)],
        "note",
        "validation clips ends at its best",
        "learning rate was",
    ),
    "102 %, and still falling": (
        [*FALLING, *course(3.5, 3.0, 2.5, token_accuracy=0.5, wer=1.02)],
        "note",
        "102 % on 200 validation clips: its texts are of no use yet",
        "levelled",
    ),
    "102 %, and no hope": (
        [*training(), *course(3.5, 3.0, 2.5, token_accuracy=0.7, wer=1.02)],
        "wrong",
        "102 % on 200 validation clips: its texts are of no use yet",
        "still falling",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_gets_its_verdict(run, name):
    rows, level, said, unsaid = RUNS[name]
    found = run([start(), *rows])
    worst = next(one for one in ("wrong", "note", "ok") if one in {f.level for f in found})
    assert worst == level, [(f.level, f.text) for f in found]
    texts = " ".join(f.text for f in found)
    assert said in texts
    assert unsaid not in texts


def test_the_evaluation_before_the_first_step_is_judged_by_nobody(run):
    untrained = evaluation(0, **DEAF | {"token_accuracy": 0.01, "token_accuracy_shuffled": 0.01})
    begun = run([start(), untrained])
    assert saying(begun, "Nothing was evaluated yet").level == "note"
    plateau = [start(), untrained, *flat(1000), evaluation(500, **DEAF), evaluation(1000, **DEAF)]
    assert "plateau" in saying(run(plateau), "does not listen").text


@pytest.mark.parametrize(("wer", "level"), [(0.29, "ok"), (0.31, "note"), (0.89, "note")])
def test_a_word_error_rate_is_judged(run, wer, level):
    found = run([start(), *training(), evaluation(wer=wer, token_accuracy=0.7)])
    assert saying(found, "word error rate").level == level


def test_the_figure_of_all_clips_stands_beside_that_of_the_last_evaluation(run):
    """Else the quickstart prints one figure, and the doctor another without a word."""
    (run.folder / "result.json").write_text(json.dumps(evaluation(clips=300, wer=0.095)))
    found = run([start(), *training(), evaluation(clips=40, wer=0.156)])
    said = "15.6 % on 40 validation clips of the last evaluation, 9.5 % on all 300 at the end."
    assert said in saying(found, "word error rate").text


# Training -----------------------------------------------------------------------------------------


def changed(rows: list[Row], where: slice | list[int], **changes: Any) -> list[Row]:
    """The same rows, some of them with other values."""
    chosen = where if isinstance(where, list) else list(range(len(rows)))[where]
    return [row | changes if i in chosen else row for i, row in enumerate(rows)]


def test_a_loss_that_is_lost_at_the_end(run):
    rows = changed(training(), slice(100, None), loss=math.nan, norm=math.nan)
    found = run([start(), *rows, evaluation(loss=math.nan)])
    one = saying(found, "not finite at the end")
    assert one.level == "wrong"
    assert "step 5,050" in one.text
    assert not [f for f in found if "listen" in f.text]


def test_single_steps_without_a_finite_gradient_are_noted_many_are_wrong(run):
    one = changed(training(), [60], skipped=1.0, loss=math.nan, norm=math.inf)
    note = saying(run([start(), *one, evaluation()]), "no finite gradient")
    assert (note.level, note.text[:10]) == ("note", "1 of 6,000")
    assert not [f for f in run([start(), *one, evaluation()]) if f.level == "wrong"]
    many = changed(training(), slice(60, None), skipped=2.0)
    assert saying(run([start(), *many, evaluation()]), "no finite gradient").level == "wrong"


def test_explosions_of_the_gradient_name_their_first_step(run):
    one = saying(run([start(), *changed(training(), [70], norm=90.0), evaluation()]), "exploded")
    assert (one.level, "step 3,550" in one.text, "90" in one.text) == ("note", True, True)
    many = changed(training(), [70, 80, 90], norm=90.0)
    assert saying(run([start(), *many, evaluation()]), "exploded in 3 rows").level == "wrong"
    begins = changed(training(), [0, 1], norm=90.0)
    assert not [f for f in run([start(), *begins, evaluation()]) if "exploded" in f.text]


def recipe(rate: float, warmup: int = 500) -> Row:
    stage = {"learning_rate": {"projector": rate}, "warmup_steps": warmup}
    return {"stages": {"projector": stage}}


def test_a_rate_too_small_to_begin_with(run):
    rows = [start(), *training(loss=3.0, learning_rate=1e-5), evaluation(**DEAF)]
    one = saying(run(rows, recipe=recipe(1e-5)), "too small")
    assert (one.level, "projector=1e-3" in one.step) == ("wrong", True)
    assert "1e-05" in saying(run(rows, recipe={"stages": {}}), "too small").text
    assert not [f for f in run(rows, recipe=recipe(1e-4)) if "too small" in f.text]
    fine = [start(), *training(learning_rate=1e-5), evaluation()]
    assert not [f for f in run(fine, recipe=recipe(1e-5)) if "too small" in f.text]


def test_a_rate_too_large_to_stay_down(run):
    found = run([start(), *climbing(), *course(0.5, 0.7, 1.5)], recipe=recipe(1e-2))
    one = saying(found, "above its best")
    assert (one.level, "far above the published" in one.text) == ("wrong", True)
    assert not [f for f in found if "levelled" in f.text]


def test_a_stage_that_is_all_warm_up(run):
    rows = [start(), *early(training(), 600), evaluation(600)]
    one = saying(run(rows), "were warm-up")
    assert (one.level, "warmup_steps=30" in one.step) == ("note", True)
    assert not [f for f in run(rows, recipe=recipe(1e-3, 100)) if "warm-up" in f.text]


@pytest.mark.parametrize(
    ("name", "budget", "said"),
    [
        ("quickstart", {"minutes": 1.65}, "quickstart --minutes 14 --fresh"),
        ("mine", {"minutes": 1.65}, "stages.projector.minutes=14"),
        ("mine", {"epochs": 0.5}, "stages.projector.epochs=4"),
        ("mine", {"steps": 30}, "stages.projector.steps=400"),
    ],
)
def test_a_stage_of_few_steps_is_advised_to_be_longer(run, name, budget, said):
    stage = {"warmup_steps": 40, "learning_rate": {"projector": 1e-3}, **budget}
    rows = [start(), *early(training(), 50), evaluation(50)]
    found = run(rows, recipe={"name": name, "stages": {"projector": stage}})
    assert said in saying(found, "were warm-up").step


def test_a_loss_that_still_falls_asks_for_more(run):
    rows = [r | {"loss": 3 - r["step"] / 4000 + 0.01 * (-1) ** i} for i, r in enumerate(training())]
    one = saying(run([start(), *rows, evaluation()]), "still falling")
    # From 2.01 to 1.5 in the last third: a quarter of its mean.
    assert (one.level, "28" in one.text, "1,950 steps" in one.text) == ("note", True, True)


def test_noise_is_no_trend(run):
    noise = random.Random(3)
    rows = [r | {"loss": 1 + noise.gauss(0, 0.05)} for r in training()]
    assert saying(run([start(), *rows, evaluation()]), "levelled off").level == "ok"


def test_validation_that_gets_worse(run):
    steps = {2000: 0.5, 3000: 0.6, 4000: 0.8, 6000: 0.9}
    found = run([start(), *training(), *[evaluation(s, loss=x) for s, x in steps.items()]])
    one = saying(found, "by heart")
    assert (one.level, "step 2,000" in one.text) == ("note", True)
    once = {2000: 0.5, 4000: 0.52, 6000: 0.9}  # a single one may be chance
    found = run([start(), *training(), *[evaluation(s, loss=x) for s, x in once.items()]])
    assert not [f for f in found if "by heart" in f.text]


@pytest.mark.parametrize(("scale", "wrong"), [(0.1, True), (0.4, False), (2.5, False), (30, True)])
def test_embeddings_of_another_size(run, scale, wrong):
    found = run([start(embedding_scale=scale), *training(), evaluation()])
    assert [f.level for f in found if "times as large" in f.text] == ["wrong"] * wrong


def test_a_stage_in_which_nothing_trains(run):
    found = run([start(trainable={"projector": 0, "encoder": 0, "decoder": 0}), *training()])
    assert "stages.projector.learning_rate" in saying(found, "Nothing trains").step


def test_the_last_stage_is_the_one_that_counts(run):
    """An earlier stage's rise is over; its evaluations are, too."""
    first = [r | {"loss": 1 + r["step"] / 2000} for r in training()]
    rows = [start(), *first, evaluation(**DEAF), *training("lora"), evaluation(stage="lora")]
    assert not [f for f in run(rows) if f.level == "wrong"]


def test_the_slope_and_its_error_are_those_of_a_least_squares_fit():
    x = np.arange(20.0) ** 1.5
    y = 2 - 0.3 * x + np.random.default_rng(1).normal(size=20)
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert line(x.tolist(), y.tolist()) == pytest.approx((slope, covariance[0, 0] ** 0.5))


def test_a_rise_is_measured_against_the_best_tenth():
    losses = [2.0] * 10 + [1.0] * 10 + [1.5] * 10
    assert rise([{"loss": x} for x in losses]) == pytest.approx(0.5)
    assert rise([{"loss": x} for x in losses[:20]]) == 0.0
    assert rise([{"loss": 5.0}] * 3) == 0.0


# Clips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "cure"), [("padding", "data.block"), ("waiting", "cache=true")])
def test_a_wasted_computer(run, key, cure):
    for share, count in ((WASTE + 0.05, 1), (WASTE - 0.05, 0)):
        found = run([start(), *training(**{key: share}), evaluation()])
        assert [(f.level, cure in f.step) for f in found if f.step and cure in f.step] == [
            ("note", True)
        ] * count


def test_clips_that_were_left_out_are_counted_by_reason(run):
    few = {"dropped": {"too long": 99}}
    assert not [f for f in run(data=few) if "left out" in f.text]
    some = saying(run(data={"dropped": {"too long": 100, "no text": 400}}), "left out")
    assert (some.level, "4.76 %" in some.text) == ("note", True)
    assert "no text: 400, too long: 100" in some.text
    assert saying(run(data={"dropped": {"broken": 5000}}), "left out").level == "wrong"
    assert DROPPED == 0.01


def test_known_sentences_are_pointed_out(run):
    one = saying(run(data={"shared_texts": 150}), "150 of 200 validation texts")
    assert (one.level, "data.validation" in one.step) == ("note", True)


# The folder ---------------------------------------------------------------------------------------


def test_a_run_may_lack_everything_but_its_metrics(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    found = diagnose(tmp_path)
    assert {f.level for f in found} == {"note"}
    assert [f.text for f in found if "no data.json" in f.text or "no recipe.yaml" in f.text]
    assert saying(found, "No training step")


def test_a_line_that_is_being_written_is_left_out_and_a_broken_one_is_named(run, tmp_path):
    run()
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"kind": "train", "sta')
    assert {f.level for f in diagnose(tmp_path)} == {"ok"}
    path.write_text('{"kind": \n' + whole)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:1 is no row"):
        diagnose(tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no .*metrics\.jsonl.*runs/NAME"):
        diagnose(tmp_path / "nothing")


def test_the_worst_comes_first_and_the_table_shows_what_to_do(run):
    found = run([start(embedding_scale=9.0), *training(waiting=0.5), evaluation()])
    assert [f.level for f in found] == sorted((f.level for f in found), key="wrong note ok".find)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render(found))
    shown = console.export_text()
    assert "→ Cache the frozen encoder's frames" in shown
    assert shown.index("wrong") < shown.index("note") < shown.index("ok")
