import random
import shutil

import numpy as np
import pytest

from recipes.nano.shards import open_store, write_shard
from recipes.nano.synth import Voice, speak, speak_festival, training_voice, write_speech
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import CheckpointError, ConfigError

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="needs flite")


ABOUT = {"seed": 0, "engines": ["espeak"]}


def plan(index):
    return f"number {index}", "number", Voice("espeak", "en-us+f3")


def long_and_short(index):
    text = ("nothing", "once upon a time " * 12)[index]
    return text, "test", Voice("espeak", "en-us", rate=0.8)


@needs_espeak
def test_speech_is_the_same_every_time():
    voice = Voice("espeak", "en-gb+m3", rate=1.1, pitch=-0.5)
    first, second = speak("seven three one", voice), speak("seven three one", voice)
    assert first.dtype == np.int16
    assert 0.5 < len(first) / SAMPLE_RATE < 4
    np.testing.assert_array_equal(first, second)


@needs_espeak
def test_a_higher_rate_is_shorter():
    slow, fast = (speak("good morning", Voice("espeak", "en-us", r)) for r in (0.8, 1.3))
    assert len(fast) < 0.8 * len(slow)


@needs_flite
def test_flite_speaks_at_16_khz():
    samples = speak("good morning", Voice("flite", "kal"))
    assert 0.4 < len(samples) / SAMPLE_RATE < 3
    assert abs(int(np.abs(samples).max()) - round(0.6 * 32767)) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("festival"), reason="needs festival")
def test_festival_speaks_many_in_one_go():
    jobs = [(text, Voice("festival", "ked_diphone")) for text in ("two", "good morning to you all")]
    short, long = speak_festival(jobs)
    assert 0.2 < len(short) / SAMPLE_RATE < len(long) / SAMPLE_RATE < 4


@pytest.mark.skipif(not shutil.which("pico2wave"), reason="needs pico2wave (Debian, non-free)")
def test_pico_speaks_as_fast_as_asked():
    slow, fast = (speak("good morning", Voice("pico", "en-GB", r)) for r in (0.8, 1.3))
    assert len(fast) < 0.8 * len(slow)


@pytest.mark.slow
@needs_espeak
def test_an_interrupted_corpus_is_completed(tmp_path):
    assert write_speech(tmp_path, 4, plan, ABOUT, shard_size=2) == {"kept": 4}
    before = [clip.samples() for clip in open_store(tmp_path)]
    (tmp_path / "shard-00001.jsonl").unlink()
    assert write_speech(tmp_path, 4, plan, ABOUT, shard_size=2) == {"kept": 2}
    clips = open_store(tmp_path)
    assert [clip.text for clip in clips] == [f"number {i}" for i in range(4)]
    for clip, samples in zip(clips, before, strict=True):
        np.testing.assert_array_equal(clip.samples(), samples)


@needs_espeak
def test_clips_of_another_plan_are_refused(tmp_path):
    write_speech(tmp_path, 1, plan, ABOUT, shard_size=1)
    with pytest.raises(ConfigError, match="another plan"):
        write_speech(tmp_path, 2, plan, {**ABOUT, "seed": 1}, shard_size=1)


@pytest.mark.slow
@needs_espeak
def test_clips_of_no_use_are_counted(tmp_path):
    counts = write_speech(tmp_path, 2, long_and_short, ABOUT, shard_size=2)
    assert counts == {"kept": 1, "longer than 10.0 s": 1}


def test_missing_programs_are_named_before_anything_is_spoken(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "flite" else name)
    with pytest.raises(ConfigError, match="needs flite"):
        write_speech(tmp_path, 1, plan, {"engines": ["espeak", "flite"]})


def test_a_shard_that_was_cut_off_is_noticed(tmp_path):
    write_shard(tmp_path, 0, [np.ones(900, np.int16)], [{"text": "", "kind": "", "speaker": ""}])
    (tmp_path / "shard-00000.i16").write_bytes(b"\0" * 1000)
    with pytest.raises(CheckpointError, match="cut off"):
        open_store(tmp_path)[0].samples()


def test_voices_are_a_function_of_the_generator():
    assert training_voice(random.Random(5)) == training_voice(random.Random(5))
