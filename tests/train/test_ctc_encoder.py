"""An encoder that trains with its CTC head: it changes, resumes exactly, and is read back whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from safetensors.torch import load_file
from test_head import recipe_of
from toy_runs import STAGES

from tiny_audio.commands.train_head import shared
from tiny_audio.data.augment import Augment
from tiny_audio.data.mixture import Visit
from tiny_audio.evaluate.ctc_system import CtcSystem
from tiny_audio.infer.ctc_head import encoder_id, read_config
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.saving import save
from tiny_audio.presets import load
from tiny_audio.train import stages
from tiny_audio.train.ctc_encoder import LiveClips
from tiny_audio.train.head import listener, train_head
from tiny_audio.train.recipe import HeadRecipe, ModelConfig, Setting
from tiny_audio.train.run import starting_model

LOUD = Augment(speed=1.0, noise=1.0)


def live(checkpoint, clips, folder, **changes) -> HeadRecipe:
    recipe = recipe_of(checkpoint, clips, folder, encoder_rate=1e-3, **changes)
    return replace(recipe, data=replace(recipe.data, augment=LOUD))


def opened(recipe) -> LiveClips:
    return LiveClips(recipe, listener(recipe, "cpu"))


@pytest.mark.slow
def test_all_of_the_encoder_trains_and_is_written_for_others(checkpoint, clips, tmp_path):
    recipe = live(checkpoint, clips, tmp_path, steps=3)
    train_head(recipe)
    folder = Path(recipe.output)
    before = dict(load(checkpoint).audio_tower.named_parameters())
    built = ModelConfig(preset="nano", encoder=str(folder / "encoder"), decoder="nano")
    model = starting_model(Setting(model=built), "cpu")
    constant = f"model.{model.audio_tower.constant}"
    for name, parameter in model.audio_tower.named_parameters():
        assert parameter.equal(before[name]) == (name == constant), name
    assert read_config(folder / "ctc").encoder == encoder_id(model.audio_tower)
    heard = CtcSystem(model, folder / "ctc").answer(toys.clips(9_000), [""])
    assert heard[0].outcome in ("ok", "no_speech")
    with pytest.raises(CheckpointError, match="for another encoder"):
        CtcSystem(load(checkpoint), folder / "ctc")


@pytest.mark.slow
def test_clips_are_learnt_by_heart(checkpoint, clips, tmp_path):
    """All but one, whose five words would need more characters than its 0.3 s have frames."""
    recipe = recipe_of(checkpoint, clips, tmp_path, encoder_rate=3e-3, steps=200)
    heard = {one["text"]: one["hypothesis"] for one in train_head(recipe)["samples"]}
    assert len(heard) == 8
    assert [text for text, hypothesis in heard.items() if text != hypothesis] == [
        "one two three four five"
    ]


def test_what_is_heard_is_changed_anew_at_every_visit_and_by_its_seed_alone(
    checkpoint, clips, tmp_path
):
    spelled = opened(live(checkpoint, clips, tmp_path))
    example = spelled.validation[0]
    one, same, other = (spelled.batch([Visit(example, 0, seed)]) for seed in (1, 1, 2))
    shapes = {tuple(batch.audio.values.shape) for batch in (one, same, other)}
    assert one.audio.values.equal(same.audio.values)
    assert len(shapes) > 1 or not one.audio.values.equal(other.audio.values)
    recorded = spelled.recorded([Visit(example, 0, 5)])
    assert recorded.values.equal(
        spelled.features([torch.from_numpy(example.sound.samples())]).values
    )


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(checkpoint, clips, tmp_path):
    whole = live(checkpoint, clips, tmp_path)
    train_head(whole)
    halves = replace(whole, output=str(tmp_path / "halves"))
    spelled = opened(halves)
    first = spelled.loop(spelled.fresh_head(), Path(halves.output))
    first.run(spelled.batches, stop_after=3)
    train_head(halves)
    for name in ("ctc/head.safetensors", "encoder/model.safetensors"):
        one, other = (load_file(Path(r.output) / name) for r in (whole, halves))
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert tensor.equal(other[key]), key


@pytest.mark.slow
def test_unusable_clips_are_left_out_and_counted(checkpoint, clips, tmp_path):
    rows = [json.loads(line) for line in clips.read_text().splitlines()]
    stored = (clips.parent / rows[0]["audio"]).read_bytes()  # its header is as it was:
    clips.with_name("damaged.flac").write_bytes(stored[: len(stored) // 2] + bytes(2000))
    rows[0]["audio"] = "damaged.flac"
    odd = clips.with_name("odd.jsonl")
    odd.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_head(live(checkpoint, odd, tmp_path, steps=2))
    about = json.loads((tmp_path / "run" / "data.json").read_text())
    assert list(about["places"].values()) == [[f"{odd}:1"]]
    assert about["kept"]["clips"] == len(rows)


def test_a_source_may_name_its_share():
    assert (shared("a/b=0.75").path, shared("a/b=0.75").weight) == ("a/b", 0.75)
    assert (shared("a=b/c").path, shared("a=b/c").weight) == ("a=b/c", 0.0)
    assert shared("a/b").path == "a/b"


def test_frames_carry_gradients_to_the_encoder(checkpoint, clips, tmp_path):
    spelled = opened(live(checkpoint, clips, tmp_path))
    head = spelled.fresh_head()
    module, rates = spelled.trained(head)
    assert set(rates) == {"encoder.", "head."}
    batch = spelled.batch([Visit(e, 0, n) for n, e in enumerate(spelled.validation[:3])])
    spelled.loss(head, batch).total.backward()
    toys.assert_gradients(module)


@pytest.mark.slow
def test_adapters_on_the_encoder_are_not_left_behind(tmp_path, clips):
    model = toys.toy_preset("nano").build()
    stages.begin(model, STAGES["lora"])
    checkpoint = save(model, tmp_path / "lora", whole=True)
    with pytest.raises(ConfigError, match="has LoRA on its encoder"):
        opened(live(checkpoint, clips, tmp_path))
