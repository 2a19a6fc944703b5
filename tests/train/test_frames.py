"""Frames on disk: found by what was heard, refused when another encoder made them, never half."""

import json
import os
from dataclasses import replace

import pytest
import torch
from toy_runs import broken, example, sound, toy_model, visit

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.mixture import DataConfig
from tiny_audio.data.sounds import BytesSound, FileSound
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.features import pad_frames
from tiny_audio.model.identity import encoder_key
from tiny_audio.train.batch import Collator, cached_key
from tiny_audio.train.data import Gathered, copies_of, fill
from tiny_audio.train.frames import FrameCache, clip_key
from tiny_audio.train.recipe import Recipe, Stage


@pytest.fixture(scope="module")
def encoder():
    return toy_model().audio_tower


def frames(seed, length=9):
    return torch.randn(length, 32, generator=torch.Generator().manual_seed(seed))


# Keys -----------------------------------------------------------------------------------------


def test_a_key_is_of_the_sound_and_of_how_it_was_changed(tmp_path):
    how, data = Augment(), sound(0, 8_000).data
    plain = clip_key(sound(0, 8_000), None, 0)
    others = [
        clip_key(sound(1, 8_000), None, 0),
        clip_key(BytesSound("clip-0.wav", data[:-1] + b"\1"), None, 0),
        clip_key(sound(0, 8_000), how, 1),
        clip_key(sound(0, 8_000), how, 2),
        clip_key(sound(0, 8_000), replace(how, noise=0.5), 1),
        clip_key(sound(0, 8_000), replace(how, speed_range=(0.9, 1.1)), 1),
    ]
    assert len({plain, *others}) == 1 + len(others)
    (tmp_path / "another name.wav").write_bytes(data)
    for same in (BytesSound("moved", data), FileSound(str(tmp_path / "another name.wav"))):
        assert clip_key(same, None, 0) == plain
        assert clip_key(same, how, 2) == others[3]


def test_text_and_prompt_are_no_part_of_a_key():
    keys = {
        cached_key(visit(0, text=text, prompt=prompt), None, {})
        for text, prompt in (("one", ""), ("two", "Why?"))
    }
    assert len(keys) == 1


def test_an_encoder_is_known_by_weights_and_configuration():
    one, other = toy_model().audio_tower, toy_model().audio_tower
    key = encoder_key(one)
    assert encoder_key(other) == key
    elsewhere = {**other.config.architecture, "_name_or_path": "moved/elsewhere"}
    other.config = replace(other.config, source="moved/elsewhere", architecture=elsewhere)
    assert encoder_key(other) == key
    spelled_out = json.loads(other.config.hf.to_json_string(use_diff=False))
    other.config = replace(one.config, architecture=spelled_out)
    assert encoder_key(other) == key
    assert encoder_key(other.bfloat16()) == key  # hashed as bfloat16, whatever it was loaded in
    for changed in ({"window": "full"}, {"layers": (0,)}, {"pool": (2, 1)}):
        other.config = replace(one.config, **changed)
        found = encoder_key(other)
        assert found["weights"] == key["weights"]
        assert found["config"] != key["config"]
    with torch.no_grad():
        next(one.model.parameters()).view(-1)[0] += 1
    assert encoder_key(one)["weights"] != key["weights"]
    assert encoder_key(one)["config"] == key["config"]


# What is kept ---------------------------------------------------------------------------------


def test_frames_come_back_bit_for_bit_in_bfloat16(encoder, tmp_path):
    cache = FrameCache(tmp_path, encoder)
    made = {f"clip {n}": frames(n, length) for n, length in enumerate([9, 1, 30, 4])}
    cache.add(made.items())
    assert len(cache) == 0  # nothing is there before it is whole
    cache.flush()
    for kept in (cache, FrameCache(tmp_path, encoder)):
        assert len(kept) == 4
        for key, values in made.items():
            assert key in kept
            assert kept.num_frames(key) == len(values)
            assert kept[key].dtype == torch.bfloat16
            assert torch.equal(kept[key], values.bfloat16())
        assert "clip 9" not in kept
    cache.flush()  # nothing waits: nothing is written
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_shards_are_cut_by_bytes(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_audio.train.frames.SHARD_BYTES", 3 * 9 * 32 * 2)
    cache = FrameCache(tmp_path, encoder)
    for n in range(10):
        cache.add([(f"clip {n}", frames(n))])
    cache.flush()
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    assert all(torch.equal(cache[f"clip {n}"], frames(n).bfloat16()) for n in range(10))


def test_two_caches_on_one_folder_see_each_others_shards(encoder, tmp_path):
    one, other = FrameCache(tmp_path, encoder), FrameCache(tmp_path, encoder)
    one.add([("a", frames(1))])
    other.add([("b", frames(2, 4))])
    one.flush()
    other.flush()
    assert "a" in other  # it looked when it wrote
    assert "b" not in one
    one.refresh()
    assert torch.equal(one["b"], frames(2, 4).bfloat16())
    assert torch.equal(other["a"], frames(1).bfloat16())
    assert len(one) == len(other) == 2


def test_padding_keeps_frames_and_lengths():
    values, lengths_B = pad_frames([frames(0, 5).bfloat16(), frames(1, 9).bfloat16()], 4)
    assert values.shape == (2, 12, 32)
    assert values.dtype == torch.float32
    assert lengths_B.tolist() == [5, 9]
    assert torch.equal(values[0, :5], frames(0, 5).bfloat16().float())
    assert not values[0, 5:].any()
    assert not values[1, 9:].any()


# What is refused ------------------------------------------------------------------------------


def test_frames_of_another_encoder_are_refused_and_the_cure_is_named(tmp_path):
    FrameCache(tmp_path, toy_model().audio_tower)
    FrameCache(tmp_path, toy_model().audio_tower)
    other = toy_model().audio_tower
    with torch.no_grad():
        next(other.model.parameters()).mul_(2)
    with pytest.raises(CheckpointError) as refused:
        FrameCache(tmp_path, other)
    assert str(tmp_path) in str(refused.value)
    assert "another encoder (its weights differ)" in str(refused.value)
    assert "Delete the folder" in str(refused.value)
    assert "frames=FOLDER" in str(refused.value)
    with pytest.raises(CheckpointError, match="its weights and config differ"):
        FrameCache(tmp_path, toy_model("hubert_large").audio_tower)


def test_a_shard_that_was_not_finished_is_not_there(encoder, tmp_path, monkeypatch):
    cache = FrameCache(tmp_path, encoder)
    cache.add([("a", frames(1))])

    def no_power(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", no_power)
        with pytest.raises(KeyboardInterrupt):
            cache.flush()
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]
    (tmp_path / ".7-0.tmp").write_bytes(b"what kill -9 leaves")
    again = FrameCache(tmp_path, encoder)
    assert len(again) == 0
    again.add([("a", frames(1))])
    again.flush()
    assert torch.equal(FrameCache(tmp_path, encoder)["a"], frames(1).bfloat16())


@pytest.mark.parametrize("left", [0, 4, 60, -100, -1])
def test_a_truncated_shard_is_refused_by_name(encoder, tmp_path, left):
    cache = FrameCache(tmp_path, encoder)
    cache.add([("a", frames(1, 300))])
    cache.flush()
    shard = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=f"{shard.name} is damaged.*Delete this file"):
        FrameCache(tmp_path, encoder)
    shard.unlink()
    assert len(FrameCache(tmp_path, encoder)) == 0


# Filling --------------------------------------------------------------------------------------

SPEED = Augment(
    speed=1.0, speed_range=(0.8, 1.25), silence=0.0, noise=0.0, band=0.0, room=0.0
)  # so that the number of frames says how fast a copy is


def recipe_of(how=None, copies=1):
    source = SourceConfig(path="in memory", copies=copies)
    data = DataConfig(sources={"clips": source}, augment=how)
    return Recipe(
        name="x", data=data, stages={"a": Stage(steps=1, cache=copies > 1)}, precision="fp32"
    )


def filled(tmp_path, model, examples, recipe):
    found = Gathered({"clips": examples}, [], {"clips": 0.0})
    cache = FrameCache(tmp_path, model.audio_tower)
    fill(cache, found, recipe, model)
    return cache, found


def test_what_is_filled_is_what_the_encoder_hears(tmp_path):
    model, recipe = toy_model("hubert_large"), recipe_of()
    examples = [example(n) for n in range(4)]
    cache, found = filled(tmp_path, model, examples, recipe)
    assert found.train["clips"] == examples
    for one in examples:
        clip = torch.from_numpy(one.sound.samples())
        live = model.audio_tower(features(model.config.encoder, [clip]))[0][0]
        kept = cache[clip_key(one.sound, None, 0)]
        assert kept.shape == live.shape
        torch.testing.assert_close(kept.float(), live, rtol=2**-7, atol=2**-7)


def test_filling_again_listens_to_nothing(tmp_path):
    model, recipe = toy_model(), recipe_of()
    heard = []
    model.audio_tower.register_forward_hook(lambda *_: heard.append(1))
    filled(tmp_path, model, [example(n) for n in range(3)], recipe)
    assert heard
    heard.clear()
    filled(tmp_path, model, [example(n) for n in range(3)], recipe)
    assert not heard
    cache, _ = filled(tmp_path, model, [example(n) for n in range(5)], recipe)
    assert len(cache) == 5
    assert len(heard) == 1


def test_unusable_clips_leave_the_run(tmp_path):
    examples = [example(0), broken().example, example(1)]
    cache, found = filled(tmp_path, toy_model(), examples, recipe_of())
    assert found.train["clips"] == [examples[0], examples[2]]
    assert found.dropped.places == {"not audio": ["clips:99"]}
    assert len(cache) == 2


def test_every_clip_has_copies_of_its_own(tmp_path):
    """Not one change of speed for copy 1 of all clips, and another for copy 2 of all."""
    model, recipe = toy_model(), recipe_of(SPEED, copies=3)
    examples = [example(n, size=16_000) for n in range(6)]
    cache, _ = filled(tmp_path, model, examples, recipe)
    assert len(cache) == 18
    audio_of = Collator(model, SPEED, cache, copies_of(recipe)).audio_of
    lengths = [[len(audio_of(visit(n, turn, size=16_000))) for turn in range(4)] for n in range(6)]
    assert {row[0] for row in lengths} == {50}
    assert all(row[3] == row[0] for row in lengths)
    for copy in (1, 2):
        assert len({row[copy] for row in lengths}) > 3
    again, _ = filled(tmp_path / "again", model, examples[::-1], recipe)
    for key in cache._places:
        assert torch.equal(cache[key], again[key])  # whatever the order, or the process


def test_copies_are_decoded_once(tmp_path, monkeypatch):
    decoded = []
    kind = type(example(0).sound)
    samples = kind.samples
    monkeypatch.setattr(kind, "samples", lambda sound: (decoded.append(sound), samples(sound))[1])
    cache, _ = filled(tmp_path, toy_model(), [example(0), example(1)], recipe_of(SPEED, copies=3))
    assert (len(cache), len(decoded)) == (6, 2)


def test_a_copy_does_not_outgrow_the_encoders_window(tmp_path):
    how = replace(SPEED, speed_range=(0.8, 0.8))
    long = example(0, size=28 * 16_000)
    cache, found = filled(tmp_path, toy_model(), [long], recipe_of(how, copies=2))
    assert found.train["clips"] == [long]
    assert {cache.num_frames(key) for key in cache._places} == {1400}


def test_about_names_the_encoder(encoder, tmp_path):
    FrameCache(tmp_path, encoder)
    assert json.loads((tmp_path / "about.json").read_text()) == encoder_key(encoder)
