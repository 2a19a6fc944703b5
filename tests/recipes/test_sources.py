import random

import numpy as np
import pytest

from recipes.nano import sources, synth
from recipes.nano.sentences import is_held_out
from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source

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


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(("name", "speakers"), [("fsdd", 1), ("speechocean762", 25)])
def test_real_sets_are_split_by_speaker(name, speakers):
    train = {row["speaker"] for row in sources.real_rows(name, held_out=False)}
    test = {row["speaker"] for row in sources.real_rows(name, held_out=True)}
    assert not train & test
    assert len(test) == speakers


@pytest.mark.slow
@needs_shared
def test_recordings_are_listed_with_their_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_decode", lambda path: np.zeros(1600, np.int16))
    for _ in range(2):  # what is there is not written again
        assert sources.write_real(tmp_path / "test", "speechocean762", held_out=True) == 500
    dropped = Dropped()
    path = str(tmp_path / "test.jsonl")
    listed = read_source("test", SourceConfig(path=path), Limits(), dropped)
    assert (len(listed), dropped.places) == (500, {})
    assert {(type(e.columns["age"]), e.columns["gender"] in "mf") for e in listed} == {(int, True)}


@pytest.mark.slow
@needs_shared
def test_training_and_held_out_sentences_never_meet():
    """One sentence in 40 of four words and more is held out: 4,000 draws would hold about 80."""
    rng = random.Random(0)
    trained = [sources.training_text(rng)[0] for _ in range(4_000)]
    assert not any(map(is_held_out, trained))
    assert not any(map(is_held_out, sources.reader_texts()))
    held_out = [sources.held_out_plan(1, index)[0] for index in range(200)]
    assert all(is_held_out(text) or len(text.split()) < 4 for text in held_out)
    assert sum(is_held_out(text) for text in held_out) > 100


@needs_shared
def test_a_clip_is_planned_by_seed_and_index():
    assert sources.training_plan(0, 17) == sources.training_plan(0, 17)
    assert sources.training_plan(0, 17) != sources.training_plan(1, 17)
