import random
import shutil

import numpy as np
import pytest

from tiny_audio.data.cache import open_store
from tiny_audio.data.synth import SAMPLE_RATE, Voice, speak, training_voice, write_speech

needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="needs flite")


def plan(index):
    return f"number {index}", "number", Voice("espeak", "en-us+f3")


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


@needs_espeak
def test_an_interrupted_corpus_is_completed(tmp_path):
    assert write_speech(tmp_path, 4, plan, shard_size=2) == 4
    before = [clip.samples() for clip in open_store(tmp_path)]
    (tmp_path / "shard-00001.jsonl").unlink()
    assert write_speech(tmp_path, 4, plan, shard_size=2) == 2
    clips = open_store(tmp_path)
    assert [clip.text for clip in clips] == [f"number {i}" for i in range(4)]
    for clip, samples in zip(clips, before, strict=True):
        np.testing.assert_array_equal(clip.samples(), samples)


def test_voices_are_a_function_of_the_generator():
    assert training_voice(random.Random(5)) == training_voice(random.Random(5))
