"""The clips of a run: who is set apart, what a clip costs, and noise that says nothing."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import soundfile
import torch
import toys
from toy_runs import STAGES, toy_model, visit

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.mixture import DataConfig
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import ConfigError
from tiny_audio.train.batch import Collator, cached_key
from tiny_audio.train.data import Cost, gather, nothing, one_ahead, plan_of, tasks_of
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.recipe import Recipe, Stage


def manifest(folder, speakers):
    """One clip of a fifth of a second for each of the names."""
    folder.mkdir()
    rows = []
    for number, speaker in enumerate(speakers):
        clip = toys.clips(3_200 + 160 * number, seed=len(folder.name) + number)[0]
        soundfile.write(folder / f"{number}.wav", clip.numpy(), 16_000)
        rows.append({"audio": f"{number}.wav", "text": f"{number} one", "speaker": speaker})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path))


def recipe(stage=None, **data):
    return Recipe(name="x", data=DataConfig(**data), stages={"a": stage or STAGES["projector"]})


@pytest.fixture
def sources(tmp_path):
    return {
        "one": manifest(tmp_path / "one", "aabbccdd"),
        "three": manifest(tmp_path / "three", "ccddeeff"),
    }


@pytest.mark.slow
def test_a_speaker_is_set_apart_from_every_source(sources):
    given = recipe(sources=sources, validation_speakers=4)
    found = gather(given, toy_model())
    apart = {e.speaker for e in found.validation}
    kept = {e.speaker for listed in found.train.values() for e in listed}
    assert sorted(apart) == found.speakers_apart
    assert len(apart) == 4
    assert apart | kept == set("abcdef")
    assert not apart & kept
    assert len(found.validation) + sum(map(len, found.train.values())) == 16
    assert gather(given, toy_model()).speakers_apart == found.speakers_apart
    others = {tuple(gather(replace(given, seed=s), toy_model()).speakers_apart) for s in range(6)}
    assert len(others) > 1


def test_a_validation_source_without_a_usable_clip_is_an_error(sources, tmp_path):
    (tmp_path / "none.jsonl").write_text('{"audio": "gone.wav", "text": "x"}\n')
    own = {"held_out": SourceConfig(path=str(tmp_path / "none.jsonl"))}
    with pytest.raises(ConfigError, match=r"validation source 'held_out' .*1 × no such file"):
        gather(recipe(sources=sources, validation=own), toy_model())


def test_validation_clips_of_their_own_set_nobody_apart(sources):
    """Also where the training clips name no speakers, as the message of the refusal says."""
    own = {"held_out": sources.pop("three")}
    found = gather(recipe(sources=sources, validation=own, validation_speakers=90), toy_model())
    assert len(found.train["one"]) == len(found.validation) == 8
    assert found.speakers_apart == []
    with pytest.raises(ConfigError, match=r"name 4\s+speakers.*data.validation"):
        gather(recipe(sources=sources, validation_speakers=90), toy_model())


@pytest.mark.parametrize("family", list(toys.DECODERS))
@pytest.mark.parametrize("encoder", ["whisper", "hubert_large"])
def test_a_clip_costs_the_positions_that_it_takes(encoder, family):
    model = toy_model(encoder, family)
    cost, collate = Cost(model), Collator(model)
    said = [None, "", "say <|im_end|> to it", "Ünï 你好"]
    for number, text in enumerate(said):
        for prompt in ("", "Hear <audio> and write."):
            heard = visit(number, text=text, prompt=prompt)
            assert cost(heard.example) == int(collate([heard]).mask_BL.sum())


def test_stretched_frames_cost_no_more_than_was_planned(tmp_path):
    model, heard = toy_model(), visit(0, size=40_000)
    cache = FrameCache(tmp_path, model.audio_tower)
    clip = torch.from_numpy(heard.example.sound.samples())
    frames = model.audio_tower(features(model.config.encoder, [clip]))[0][0]
    cache.add([(cached_key(heard, None, {}), frames)])
    cache.flush()
    collate, most = Collator(model, cache=cache, frame_stretch=0.3), Cost(model, 0.3)(heard.example)
    taken = [int(collate([heard._replace(seed=seed)]).mask_BL.sum()) for seed in range(40)]
    assert max(taken) in (most - 1, most)
    assert min(taken) < Cost(model)(heard.example)


def test_noise_that_says_nothing_has_its_share(sources):
    given = recipe(sources=sources, nonspeech=0.25, block=64)
    model = toy_model()
    found = gather(given, model)
    plan = plan_of(found, given, given.stages["a"], model)
    for number in range(3):
        heard = Counter(v.example.source for v in plan.mixture.visits(number))
        assert heard == {"one": 24, "three": 24, "nonspeech": 16}
    quiet = found.train["nonspeech"][7]
    assert quiet.text == ""
    assert np.array_equal(quiet.sound.samples(), nothing(7).sound.samples())
    assert len(quiet.sound.samples()) == int(quiet.duration_s * 16_000)


def test_a_stage_has_weights_of_its_own(sources):
    stage = Stage(steps=1, weights={"three": 0.75})
    given, model = recipe(stage, sources=sources, block=64), toy_model()
    found = gather(given, model)
    plan = plan_of(found, given, stage, model)
    heard = Counter(v.example.source for v in plan.mixture.visits(0))
    assert heard == {"one": 16, "three": 48}
    odd = Stage(steps=1, weights={"thre": 0.5})
    with pytest.raises(ConfigError, match="Did you mean 'three'"):
        plan_of(found, given, odd, model)


def test_augmented_clips_cost_no_more_than_was_planned():
    model, how = toy_model(), Augment(speed=1.0, speed_range=(0.7, 1.3), silence=1.0)
    collate, heard = Collator(model, how), visit(0, size=16_000)
    taken = [int(collate([heard._replace(seed=seed)]).mask_BL.sum()) for seed in range(30)]
    assert Cost(model)(heard.example) < max(taken) <= Cost(model, how=how)(heard.example)


def test_only_the_next_batch_is_decoded_ahead():
    begun = []
    with ThreadPoolExecutor(1) as pool:
        made = one_ahead(pool, lambda item: begun.append(item) or -item, range(9))
        assert next(made) == 0
        sleep(0.05)
        assert begun == [0, 1]
        assert list(made) == [-n for n in range(1, 9)]


def test_the_questions_that_were_trained_are_known(sources):
    """By the column `task`, or by the source; the model's own instruction is no other question."""
    path = Path(sources["three"].path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {
            "task": ("key", "tempo")[number % 2],
            "prompt": ("Which key?", "How fast?")[number % 2],
        }
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    described = replace(sources["one"], prompt="Name the sound.")
    model = toy_model()
    asked = recipe(sources={"plain": sources["one"], "three": sources["three"]})
    found = tasks_of(model, asked, gather(asked, model))
    assert found == {"key": "Which key?", "tempo": "How fast?"}
    model.config.tasks = found
    again = recipe(sources={"sounds": described})
    assert tasks_of(model, again, gather(again, model)) == found | {"sounds": "Name the sound."}
