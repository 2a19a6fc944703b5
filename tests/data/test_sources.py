import random

import pytest

from tiny_audio.data import sources, synth

needs_shared = pytest.mark.skipif(
    not sources.shared_data().is_dir(), reason="needs the recordings in ../shared/data"
)


def test_held_out_voices_are_never_training_voices():
    rng = random.Random(0)
    trained = {synth.training_voice(rng).speaker for _ in range(20_000)}
    held_out = {synth.held_out_voice(rng).speaker for _ in range(2_000)}
    assert not trained & held_out
    assert not any(synth.HELD_OUT_ACCENT in speaker for speaker in trained)
    assert not {speaker.partition("+")[2] for speaker in trained} & set(synth.HELD_OUT_VARIANTS)


@needs_shared
@pytest.mark.parametrize(("name", "speakers"), [("fsdd", 1), ("speechocean762", 25)])
def test_real_sets_are_split_by_speaker(name, speakers):
    train = {row["speaker"] for row in sources.real_rows(name, held_out=False)}
    test = {row["speaker"] for row in sources.real_rows(name, held_out=True)}
    assert not train & test
    assert len(test) == speakers


@needs_shared
def test_training_and_held_out_sentences_never_meet():
    trained = {sources.training_plan(0, index)[0] for index in range(300)}
    held_out = {sources.held_out_plan(1, index)[0] for index in range(20)}
    assert not {t for t in held_out if len(t.split()) >= 4} & trained


@needs_shared
def test_a_clip_is_planned_by_seed_and_index():
    assert sources.training_plan(0, 17) == sources.training_plan(0, 17)
    assert sources.training_plan(0, 17) != sources.training_plan(1, 17)
