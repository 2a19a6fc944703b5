"""A head's training: eight clips by heart, the encoder as it was, and exact resume."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from safetensors.torch import load_file

from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.mixture import DataConfig
from tiny_audio.evaluate.ctc_system import CtcSystem
from tiny_audio.infer.ctc_head import encoder_id
from tiny_audio.infer.timestamps import load_aligner
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import ConfigError
from tiny_audio.presets import load
from tiny_audio.scope.doctor.diagnosis import diagnose
from tiny_audio.train.ctc_clips import SpelledClips
from tiny_audio.train.head import chosen_model, listener, stage_of, train_head
from tiny_audio.train.recipe import HeadRecipe, ModelConfig, Recipe, Stage

HEART_STEPS = 70


def recipe_of(checkpoint, clips, folder, steps=6, encoder_rate=0.0, **changes) -> HeadRecipe:
    stage = replace(stage_of(1.0, None, encoder_rate), minutes=0.0, steps=steps, warmup_steps=2)
    source = {"clips": SourceConfig(path=str(clips))}
    given = {
        "model": ModelConfig(checkpoint=str(checkpoint)),
        "data": DataConfig(sources=source, validation=source, batch_items=8, block=8),
        "output": str(folder / "run"),
        "frames": str(folder / "frames"),
        "stage": stage,
        "precision": "fp32",
        "device": "cpu",
    }
    return HeadRecipe(**{**given, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    samples = toys.REPOSITORY / "samples" / "manifest.jsonl"
    recipe = recipe_of("nano", samples, tmp_path_factory.mktemp("heart"), steps=HEART_STEPS)
    return recipe, train_head(recipe)


@pytest.mark.slow
def test_eight_clips_are_learnt_by_heart(trained):
    recipe, result = trained
    assert result["wer"] == 0.0
    assert result["clips"] == 8
    model = load("nano").eval()
    system = CtcSystem(model, Path(recipe.output) / "ctc")
    samples = [load_audio(path).samples for path, _ in toys.samples()]
    heard = system.answer(samples, [""] * 8)
    assert [answer.text for answer in heard] == [text for _, text in toys.samples()]
    assert {answer.outcome for answer in heard} == {"ok"}
    assert system.about()["encoder"] == encoder_id(model.audio_tower)
    with pytest.raises(ConfigError, match="only transcribes"):
        system.answer(samples[:1], ["which language is this?"])


@pytest.mark.slow
def test_the_encoder_is_as_it_was(trained):
    recipe, _ = trained
    model = listener(recipe, "cpu")
    assert not any(p.requires_grad for p in model.audio_tower.parameters())
    head = load_aligner(model, Path(recipe.output) / "ctc").head
    assert head.config.encoder == encoder_id(load("nano").audio_tower)
    last = max((Path(recipe.output) / "head").glob("step-*.safetensors"))
    trains = {k for k in load_file(last) if k.startswith("module.")}
    assert trains == {f"module.{name}" for name, _ in head.named_parameters()}


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(checkpoint, clips, tmp_path):
    whole = recipe_of(checkpoint, clips, tmp_path)
    train_head(whole)
    halves = replace(whole, output=str(tmp_path / "halves"))
    spelled = SpelledClips(halves, listener(halves, "cpu"))
    first = spelled.loop(spelled.fresh_head(), Path(halves.output))
    first.run(spelled.batches, stop_after=3)
    train_head(halves)
    stored = [load_file(Path(r.output) / "ctc" / "head.safetensors") for r in (whole, halves)]
    for name, tensor in stored[0].items():
        assert tensor.equal(stored[1][name]), name


@pytest.mark.slow
def test_another_recipe_is_refused_in_the_same_folder(trained):
    recipe, _ = trained
    with pytest.raises(ConfigError, match=r"another run.*hidden"):
        train_head(replace(recipe, hidden=8))


@pytest.mark.slow
def test_texts_that_it_cannot_spell_are_left_out_and_counted(checkpoint, clips, tmp_path):
    rows = [json.loads(line) for line in clips.read_text().splitlines()]
    rows[2]["text"], rows[3]["text"] = "page 12", "мир"
    odd = clips.with_name("odd.jsonl")
    odd.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_head(recipe_of(checkpoint, odd, tmp_path, steps=1))
    about = json.loads((tmp_path / "run" / "data.json").read_text())
    assert about["kept"] == {"clips": 6}
    assert about["dropped"] == {"a text with other letters than a to z": 2}


def test_without_validation_clips_nothing_is_trained(checkpoint, clips, tmp_path):
    recipe = recipe_of(checkpoint, clips, tmp_path)
    with pytest.raises(ConfigError, match="--validation-speakers"):
        train_head(replace(recipe, data=replace(recipe.data, validation={})))


def test_a_head_trains_alone_or_with_its_encoder():
    for parts in (["encoder"], ["head", "decoder"], ["projector"]):
        with pytest.raises(ConfigError, match=r"Give learning_rate\.head"):
            HeadRecipe(stage=Stage(steps=1, learning_rate=dict.fromkeys(parts, 1e-3)))
    with pytest.raises(ConfigError, match="tiny-audio train-head"):
        Recipe(name="x", stages={"x": stage_of(1.0, None, 0.0)})


def test_a_model_is_named_as_everywhere():
    assert chosen_model("nano") == ModelConfig(checkpoint="nano")
    assert chosen_model("runs/a/model") == ModelConfig(checkpoint="runs/a/model")
    assert chosen_model("whisper_tiny") == ModelConfig(preset="whisper_tiny", decoder="nano")
    given = ModelConfig(preset="nano", encoder="folder", decoder="nano")
    assert chosen_model("nano", "folder") == given
    with pytest.raises(ConfigError, match="has its own encoder"):
        chosen_model("runs/a/model", "folder")


def test_a_rate_below_zero_is_refused():
    for wrong in ((-1.0, 0.0), (None, -1e-4), (None, math.nan)):
        with pytest.raises(ConfigError, match="0 or more"):
            stage_of(1.0, *wrong)


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_rows_of_lost_steps_are_forgotten(
    checkpoint, clips, tmp_path
):
    recipe = recipe_of(checkpoint, clips, tmp_path, steps=2)
    folder = Path(recipe.output)
    result = train_head(recipe)
    before = (folder / "metrics.jsonl").read_text()
    assert train_head(recipe) == result
    (folder / "result.json").unlink()
    lost = json.dumps({"stage": "head", "step": 3, "kind": "train"}) + "\n"
    (folder / "metrics.jsonl").write_text(before + lost)
    train_head(recipe)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} == {0, 2}
    with pytest.raises(ConfigError, match="run of train-head"):
        diagnose(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(checkpoint, clips, tmp_path):
    with pytest.raises(ConfigError, match="finds no GPU here"):
        train_head(recipe_of(checkpoint, clips, tmp_path, device="cuda"))
