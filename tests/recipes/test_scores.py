import numpy as np
import pytest

from recipes.nano import scores
from recipes.nano.scores import Transcribed
from recipes.nano.shards import write_shard


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in scores.SETS:
        seconds = [*np.linspace(0.3, 3, 20), 11.0, 0.05]
        clips = [rng.integers(-999, 999, int(16_000 * s)).astype(np.int16) for s in seconds]
        rows = [{"text": f"clip {n}", "kind": "t", "speaker": f"s{n}"} for n in range(22)]
        write_shard(tmp_path / "corpus" / f"{name}-test", 0, clips, rows)
    return tmp_path


def test_what_is_watched_is_not_reported_and_nothing_is_lost(folder):
    (watched, left_out), (reported, _) = (
        scores.held_out_items(folder, "domain", part) for part in ("watched", "reported")
    )
    watched_texts, reported_texts = ({i.text for i in items} for items in (watched, reported))
    assert not watched_texts & reported_texts
    assert watched_texts | reported_texts == {f"clip {n}" for n in range(20)}
    assert len(watched) == 3
    assert left_out == {"longer than 10.0 s": 1, "shorter than 0.1 s": 1}


def test_watching_scores_every_set_by_its_own_clips(folder):
    def listen(items):
        return [(item.text.replace("clip", "clap"), "ok") for item in items]

    assert scores.watch(listen, folder) == {f"wer_{name}": 0.5 for name in scores.SETS}


def test_voices_are_grouped_by_what_is_new_about_them():
    clips = [
        Transcribed("espeak:en-gb-x-gbcwmd+m3", "one", "one", "ok"),
        Transcribed("espeak:en-us+f2", "one two three four", "one two three four", "ok"),
        Transcribed("flite:rms", "two", "too", "cut_off"),
    ]
    groups = scores.domain_groups(clips)
    assert {name: len(members) for name, members in groups.items()} == {
        "domain, unheard espeak accent": 1,
        "domain, unheard espeak variants": 1,
        "domain, four words and more": 1,
        "domain, flite:rms": 1,
    }
    assert scores.counts(clips)["outcomes"] == {"ok": 2, "cut_off": 1}
