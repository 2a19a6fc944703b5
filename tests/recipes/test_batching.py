import numpy as np
import pytest

from recipes.nano.batching import Batches, Item, Mix, Sources, cut_by_seconds
from recipes.nano.shards import open_store, write_shard


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    clips, rows = [], []
    for number in range(40):
        clips.append(rng.integers(-3000, 3000, rng.integers(4_000, 150_000)).astype(np.int16))
        rows.append({"text": f"word {number}", "kind": "test", "speaker": "x", "index": number})
    write_shard(folder, 0, clips, rows)
    stored = open_store(folder)
    for clip, samples in zip(stored, clips, strict=True):
        np.testing.assert_array_equal(clip.samples() * 32768, samples)
    short = sorted(stored, key=lambda c: c.duration_s)[:10]
    return Sources(stored, stored, [short, short], stored)


def test_a_step_is_a_function_of_the_seed(sources):
    first = Batches(sources, Mix(block=64), 1, 20.0)
    for step in (0, 7, 3, 40, 7):
        assert first(step) == Batches(sources, Mix(block=64), 1, 20.0)(step)
    assert first(0) != Batches(sources, Mix(block=64), 2, 20.0)(0)


def test_items_fit_the_window_and_batches_their_budget(sources):
    batches = Batches(sources, Mix(block=64), 0, 20.0)
    for step in range(20):
        items = batches(step)
        longest = max(item.duration_s for item in items)
        assert len(items) == 1 or longest * len(items) <= 20.0
        for item in items:
            samples = item.samples()
            assert 0 < len(samples) <= 160_000
            assert samples.dtype == np.float32
            assert len(item.clips) == len(item.gaps_s) or not item.clips


@pytest.mark.slow
def test_nothing_is_said_where_nothing_is_heard(sources):
    items = [i for s in range(60) for i in Batches(sources, Mix(block=64, nothing=0.5), 0, 20.0)(s)]
    silent = [item for item in items if not item.clips]
    assert silent
    assert all(item.text == "" for item in silent)


def test_without_augmentation_a_clip_is_as_recorded(sources):
    clip = sources.domain[0]
    item = Item((clip,), (0.0,), 0, None)
    np.testing.assert_array_equal(item.samples(), clip.samples())


def test_cutting_loses_nothing(sources):
    items = [Item((clip,), (0.0,), 0, None) for clip in sources.domain]
    cut = cut_by_seconds(items, 15.0)
    assert [item for batch in cut for item in batch] == items
