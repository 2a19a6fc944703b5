"""Frames that are computed once give what an encoder with fewer layers or a lower rate gives."""

from dataclasses import replace

import pytest
import torch
import toys
from toy_runs import example

from recipes.ears.frames import ALL_LAYERS, FrameStore, chosen, encoder_config
from recipes.ears.together import FOLD, readers, sounds
from recipes.ears.train import (
    Plan,
    answers,
    build,
    controls,
    fit,
    pace,
    regularised,
    ridge,
    solve_by_ridge,
)
from recipes.nano.sources import shared_data
from tiny_audio.evaluate.tasks import TASKS
from tiny_audio.model.encoder import AudioEncoder, load_encoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder() -> AudioEncoder:
    return load_encoder(encoder_config())


@pytest.mark.parametrize(("layers", "hertz"), [((0, 4), 10), ((2,), 1), (ALL_LAYERS, 0.5)])
def test_layers_and_rates_are_chosen_from_what_is_kept(encoder, layers, hertz):
    clip = toys.clips(64_000)[0]
    config = encoder_config(layers, hertz)
    with torch.inference_mode():
        kept = encoder(encoder.features([clip]))[0][0]
        other = load_encoder(config)
        expected = other(other.features([clip]))[0][0]
    torch.testing.assert_close(chosen(kept, config), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("statistics_s", [0.0, 0.5], ids=["blp", "statistics"])
def test_a_plan_trains_and_answers_questions_about_one_clip_and_two(
    encoder, tmp_path, statistics_s
):
    store = FrameStore(encoder, tmp_path)
    one = [replace(example(n), text="rain", prompt="Name the sound.") for n in range(3)]
    pair = replace(example(3), text="rain", more=(example(0).sound,), prompt="<audio> and <audio>?")
    asked = [*one, pair]
    store.encode([part.sound for e in asked for part in e.parts()])
    plan = Plan(layers=(0, 4), hertz=2, steps=30, batch=4, frame_dropout=0.0)
    plan = replace(plan, statistics_s=statistics_s, crop_s=statistics_s)
    model = build(plan)
    losses = fit(model, plan, asked, store)
    assert losses[-1] < 0.2 < losses[0]
    frames = [store.frames_of(e, model.config.encoder) for e in asked]
    assert [len(of) for of in frames] == [1, 1, 1, 2]
    assert set(answers(model, asked, frames)) == {"rain"}
    scores = controls(model, TASKS["describe"], one, store, frames[0][0] * 0)
    assert scores["audio"] == 1
    assert set(scores) == {"audio", "swapped", "silence"}


def test_statistics_that_a_regression_gives_their_weights_keep_them_and_tell_texts_apart(
    encoder, tmp_path
):
    store = FrameStore(encoder, tmp_path)
    asked = [replace(example(n), text=text) for n, text in enumerate(["rain", "dog", "rain"])]
    store.encode([e.sound for e in asked])
    plan = Plan(layers=(0, 4), hertz=2, steps=4, batch=3, statistics_s=9.0, ridge=0.01)
    model = build(plan)
    clips = [store.frames_of(e, model.config.encoder)[0] for e in asked]
    with regularised(model, plan, clips):
        solve_by_ridge(model, plan, clips, [{"text": e.text} for e in asked])
    solved = model.projector.linear_out.weight.clone()
    with torch.no_grad():
        rain, dog, rain_again = (
            model.projector(c[None], torch.tensor([len(c)]))[0][0, 0] for c in clips
        )
    alike = torch.cosine_similarity
    assert alike(rain, rain_again, dim=0) > 0.9 > 0 > alike(rain, dog, dim=0)
    fit(model, plan, asked, store)
    torch.testing.assert_close(model.projector.linear_out.weight, solved)


@pytest.mark.parametrize("num", [6, 40], ids=["fewer clips than numbers", "more"])
def test_a_ridge_is_the_least_squares_of_rows_that_ask_for_small_weights(num):
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(num, 10, generator=draw, dtype=torch.float64)
    wanted = torch.randn(num, 3, generator=draw, dtype=torch.float64)
    small = (0.2 * 10) ** 0.5 * torch.eye(10, dtype=torch.float64)
    rows = torch.cat([given, small]), torch.cat([wanted, wanted.new_zeros(10, 3)])
    torch.testing.assert_close(ridge(given, wanted, 0.2), torch.linalg.lstsq(*rows).solution)


@pytest.mark.skipif(not shared_data().is_dir(), reason="needs the recordings in ../shared/data")
def test_nothing_that_is_answered_together_was_trained_on():
    for task in ("age", "gender"):
        train, test = readers(task)
        assert not {e.speaker for e in train} & {e.speaker for e in test}
        assert len({e.speaker for e in test}) == 25
        assert {e.text for e in train} == {e.text for e in test} == set(TASKS[task].classes)
    train, test = sounds(str(shared_data() / "esc10" / "train.jsonl"))
    assert {e.columns["fold"] for e in test} == {FOLD}
    assert not {e.sound.digest() for e in train} & {e.sound.digest() for e in test}
    assert len(train) == 3 * 240


def test_the_rate_rises_and_then_falls_to_nearly_nothing():
    rates = [pace(step, 120) for step in range(120)]
    assert rates[0] < 0.2
    assert max(rates) == rates[rates.index(max(rates))] > 0.9
    assert rates[-1] < 0.05
