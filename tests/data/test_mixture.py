"""The order of the clips: exact shares, every clip once an epoch, budgets, and exact resumption."""

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.data.augment import Augment, augment
from tiny_audio.data.examples import Dropped, Example, SourceConfig
from tiny_audio.data.mixture import (
    DataConfig,
    Mixture,
    Plan,
    StreamPlan,
    Visit,
    cut,
    padding,
    planned_s,
    shares,
    split_by_speaker,
    worst,
)
from tiny_audio.data.sounds import BytesSound
from tiny_audio.model.errors import ConfigError
from tiny_audio.presets import load
from tiny_audio.train.data import gather, plan_of, waste
from tiny_audio.train.recipe import Recipe, Stage


def clip(source, number, duration_s=1.0, speaker=""):
    sound = BytesSound(f"{source}-{number}", b"")
    return Example(f"{source}:{number}", "text", duration_s, sound, speaker, source)


def sources_of(sizes):
    """Sources of these sizes; a clip's duration tells it apart from most others."""
    return {
        name: [clip(name, n, 1 + (7 * n) % 11 / 4) for n in range(size)]
        for name, size in sizes.items()
    }


def mixture(sizes, weights=None, seed=0, block=100):
    return Mixture(sources_of(sizes), weights or {}, seed, block)


# Shares ---------------------------------------------------------------------------------------


def test_shares_are_weights_and_parts_of_what_they_leave():
    made = shares({"a": 300, "b": 100, "c": 50}, {"c": 0.2})
    assert made == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert shares({"a": 1, "b": 9}, {"a": 0.5, "b": 0.5}) == {"a": 0.5, "b": 0.5}
    assert shares({"a": 5, "b": 10}, {}) == pytest.approx({"a": 1 / 3, "b": 2 / 3})


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"a": 0.7, "b": 0.7}, "add up to 1.4"),
        ({"a": 0.3, "b": 0.3}, "add up to 0.6.*there is none"),
        ({"a": 1.0}, r"add up to 1\. .*\(b\)"),
    ],
)
def test_weights_that_are_no_shares_are_refused(weights, said):
    with pytest.raises(ConfigError, match=said):
        mixture({"a": 5, "b": 5}, weights)


def test_a_source_without_clips_is_refused_by_name():
    with pytest.raises(ConfigError, match="source 'none' has no usable clip"):
        mixture({"some": 5, "none": 0})


def test_every_block_holds_its_exact_share():
    mixed = mixture({"a": 300, "b": 100, "c": 50}, {"c": 0.2}, block=100)
    assert mixed.epoch_clips == 500
    for number in (0, 1, 2, 17, 400):
        counts = Counter(v.example.source for v in mixed.visits(number))
        assert counts == {"a": 60, "b": 20, "c": 20}


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.integers(1, 90),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.01, 0.3, 0.77]),
)
def test_no_share_drifts(sizes, block, num_blocks, weight):
    """After any number of blocks a source is at most one clip behind its share."""
    named = {f"s{n}": size for n, size in enumerate(sizes)} | ({"heavy": 7} if weight else {})
    mixed = mixture(named, {"heavy": weight} if weight else {}, block=block)
    counts = Counter(v.example.source for n in range(num_blocks) for v in mixed.visits(n))
    for name, share in mixed.shares.items():
        due = share * block * num_blocks
        assert due - 1 < counts[name] <= due + 1e-6


# Epochs ---------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(1, 64),
    st.sampled_from([0.0, 0.01, 0.25, 0.8]),
    st.integers(0, 3),
)
def test_every_clip_is_heard_once_an_epoch(sizes, block, weight, seed):
    named = {f"s{n}": size for n, size in enumerate(sizes)}
    weights = {"heavy": weight} if weight else {}
    mixed = mixture(named | ({"heavy": 5} if weight else {}), weights, seed, block)
    epoch = sum(sizes) / (1 - weight)
    assert mixed.epoch_clips == round(epoch)
    drawn = [v for n in range(math.ceil(epoch / block - 1e-9)) for v in mixed.visits(n)]
    first = Counter(v.example.where for v in drawn if v.repeat == 0)
    assert {w: n for w, n in first.items() if not w.startswith("heavy")} == {
        f"{name}:{number}": 1 for name, size in named.items() for number in range(size)
    }


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 30))
def test_turns_follow_one_another(size, block, num_blocks):
    """A clip comes again when all others of its source have come as often."""
    mixed = mixture({"a": size}, block=block)
    drawn = [v for n in range(num_blocks) for v in mixed.visits(n)]
    for at in range(0, len(drawn), size):
        turn = drawn[at : at + size]
        assert {v.repeat for v in turn} == {at // size}
        assert len({v.example.where for v in turn}) == len(turn)


def test_every_epoch_has_an_order_of_its_own():
    mixed = mixture({"a": 50}, block=50)
    first, second = ([v.example.where for v in mixed.visits(n)] for n in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


# The order is a value -------------------------------------------------------------------------


def test_the_order_is_a_function_of_the_seed():
    sizes, weights = {"a": 50, "b": 7}, {"b": 0.3}
    one, other = (mixture(sizes, weights, seed=3, block=40) for _ in range(2))
    backwards = {n: other.visits(n) for n in reversed(range(9))}
    forwards = [one.visits(n) for n in range(9)]
    assert forwards == [backwards[n] for n in range(9)]
    assert len({v.seed for block in forwards for v in block}) > 300
    for seed in (4, 5):
        assert mixture(sizes, weights, seed, 40).visits(0) != forwards[0]


def plan(seed=0, **changes):
    config = DataConfig(**{"batch_s": 12.0, "block": 37, "micro_batches": 2, **changes})
    mixed = mixture({"a": 60, "b": 9}, {"b": 0.25}, seed, config.block)
    return Plan(mixed, config, lambda e: round(4 * e.duration_s))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_resumed_anywhere_the_rest_is_the_same(micro_batches):
    def steps(state):
        return plan(micro_batches=micro_batches).steps(json.loads(json.dumps(state)))

    whole = list(islice(steps({}), 60))
    assert whole[-1][1]["block"] > 3
    for done, (_, state) in enumerate(whole, start=1):
        assert list(islice(steps(state), 60 - done)) == whole[done:]


def test_one_plan_goes_back_and_forth():
    one = plan()
    whole = list(islice(plan().steps({}), 40))
    worst(one)
    waste(one)
    again = list(islice(one.steps(whole[30][1]), 9))
    assert again == whole[31:]
    assert list(islice(one.steps({}), 40)) == whole


def test_steps_hold_all_visits_of_their_block():
    made = plan(micro_batches=4)
    steps = [step for step, state in islice(made.steps({}), 60) if state["block"] <= 2][:-1]
    assert {len(step) for step in steps} <= {1, 2, 3, 4}
    for number in (0, 1):
        dealt = [v for step in made.steps_of(number) for batch in step for v in batch]
        assert sorted(dealt, key=str) == sorted(made.mixture.visits(number), key=str)


def test_the_steps_of_an_epoch_are_counted():
    made = plan(micro_batches=1, block=92)  # 69 clips without a weight fill three quarters of it
    assert made.mixture.epoch_clips == 80
    assert made.steps_per_epoch() == len(made.steps_of(0)) * 80 / 92


# Streams --------------------------------------------------------------------------------------


class Listed:
    """A stream of a list of clips: fewer than asked for, and no state, at its end."""

    def __init__(self, clips):
        self.clips, self.dropped = clips, Dropped()

    def take(self, count, state=None):
        first = state["at"] if state else 0
        taken = self.clips[first : first + count]
        return taken, {"at": first + count} if len(taken) == count else None


def stream_plan(size=50, block=16, seed=0):
    config = DataConfig(batch_s=12.0, block=block, micro_batches=2)
    listed = Listed(sources_of({"a": size})["a"])
    return StreamPlan(listed, config, lambda e: round(4 * e.duration_s), seed)


@pytest.mark.parametrize(("size", "block"), [(50, 16), (48, 16), (5, 16), (16, 16)])
def test_a_stream_is_heard_whole_and_again(size, block):
    heard = Counter()
    for step, _ in stream_plan(size, block).steps({}):
        assert all(step)
        if step[0][0].repeat == 3:
            break
        heard.update((v.example.where, v.repeat) for batch in step for v in batch)
    clips = [f"a:{number}" for number in range(size)]
    assert heard == {(where, turn): 1 for where in clips for turn in range(3)}


def test_a_stream_goes_on_where_its_state_says():
    whole = list(islice(stream_plan().steps({}), 40))
    assert whole[-1][1]["turn"] > 2
    for done, (_, state) in enumerate(whole, start=1):
        rest = stream_plan().steps(json.loads(json.dumps(state)))
        assert list(islice(rest, 40 - done)) == whole[done:]
    other = list(islice(stream_plan(seed=1).steps({}), 40))
    assert [step for step, _ in other] != [step for step, _ in whole]


def test_a_stream_without_clips_or_without_an_end_is_refused():
    empty = stream_plan(size=0)
    with pytest.raises(ConfigError, match="no usable clip"):
        next(empty.steps({}))
    with pytest.raises(ConfigError, match="no usable clip"):
        waste(empty)
    with pytest.raises(ConfigError, match="give steps or minutes"):
        stream_plan().steps_per_epoch()


# Budgets --------------------------------------------------------------------------------------

SLOW = Augment(speed=1.0, speed_range=(0.8, 1.2), silence=1.0, silence_s=0.5)


def test_the_planned_length_is_never_exceeded():
    rng = np.random.default_rng(0)
    for how in (SLOW, Augment(), Augment(speed_range=(1.1, 1.3)), replace(SLOW, silence=0.0)):
        longest = 0.0
        for seed in range(60):
            samples = rng.standard_normal(8_000).astype(np.float32) * 0.1
            changed = augment(samples, np.random.default_rng(seed), how)
            longest = max(longest, len(changed) / 16_000)
        assert longest <= planned_s(clip("a", 0, 0.5), how) + 1 / 16_000
    assert planned_s(clip("a", 0, 0.8), SLOW) == pytest.approx(0.8 / 0.8 + 1.0)
    assert planned_s(clip("a", 0, 0.8), None) == 0.8
    assert planned_s(clip("a", 0, 0.8), Augment(speed=0.0, silence=0.0)) == 0.8


@given(
    st.lists(st.floats(0.1, 40), max_size=60),
    st.floats(1, 100),
    st.integers(1, 400),
    st.integers(1, 12),
    st.sampled_from([None, Augment(), SLOW]),
    st.booleans(),
)
def test_budgets_hold_for_every_micro_batch(durations, batch_s, tokens, items, how, ordered):
    config = DataConfig(batch_s=batch_s, batch_tokens=tokens, batch_items=items, augment=how)
    ordered_s = sorted(durations) if ordered else durations
    visits = [Visit(clip("a", n, s), 0, n) for n, s in enumerate(ordered_s)]

    def cost(example):
        return 3 + math.ceil(10 * example.duration_s)

    def fits(batch):
        seconds = max(planned_s(v.example, how) for v in batch)
        positions = max(cost(v.example) for v in batch)
        rows = len(batch)
        return rows * seconds <= batch_s and rows * positions <= tokens and rows <= items

    batches = cut(visits, config, cost)
    assert [v for batch in batches for v in batch] == visits
    assert all(batches)
    for batch in batches:
        assert len(batch) <= 1 or fits(batch)
    for batch, following in pairwise(batches):
        assert not fits([*batch, following[0]])  # none is smaller than it must be


@pytest.mark.parametrize("name", ["batch_s", "batch_tokens", "batch_items", "micro_batches"])
def test_budgets_of_nothing_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name}.* greater than 0"):
        DataConfig(**{name: 0})
    with pytest.raises(ConfigError, match=r"block.* greater than 0"):
        DataConfig(block=-1)


def test_the_worst_batch_takes_most_positions():
    made = plan()
    every = [batch for step in made.steps_of(0) for batch in step]
    most = max(len(b) * max(made.cost(v.example) for v in b) for b in every)
    found = worst(made)
    assert found in every
    assert len(found) * max(made.cost(v.example) for v in found) == most


def test_padding_is_the_share_that_is_not_used():
    assert padding([4, 4]) == 0
    assert padding([1, 3]) == pytest.approx(1 / 3)
    assert padding([]) == 0


@pytest.mark.slow
def test_little_is_padded_on_real_clips(shared):
    """Of the decoder's positions (prompt, audio, answer, stop token), and of the audio."""
    path = str(shared / "data" / "speechocean762" / "train.jsonl")
    model = load("nano", check=False)
    for batch_s in (60.0, 160.0):
        data = DataConfig(sources={"readers": SourceConfig(path=path)}, batch_s=batch_s)
        stage = Stage(steps=1)
        recipe = Recipe(name="x", data=data, stages={"a": stage})
        found = gather(recipe, model)
        assert len(found.train["readers"]) > 2400
        made = plan_of(found, recipe, stage, model)
        assert 0 < waste(made) <= 0.05
        seconds = [[v.example.duration_s for v in b] for step in made.steps_of(0) for b in step]
        padded_s = sum(len(batch) * max(batch) for batch in seconds)
        assert 1 - sum(map(sum, seconds)) / padded_s <= 0.1


# Speakers -------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["", "a", "b", "c", "d", "e", "f"]), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(0, 5),
)
def test_no_speaker_is_on_both_sides(speakers, num_speakers, seed):
    clips = [clip("x", n, speaker=name) for n, name in enumerate(speakers)]
    named = {name for name in speakers if name}
    if len(named) < num_speakers + 2:
        with pytest.raises(ConfigError, match=f"name {len(named)} speakers"):
            split_by_speaker(clips, num_speakers, seed)
        return
    train, apart, chosen = split_by_speaker(clips, num_speakers, seed)
    assert [e for e in clips if e in train or e in apart] == clips
    assert len(train) + len(apart) == len(clips)
    assert {e.speaker for e in apart} == set(chosen)
    assert not {e.speaker for e in train} & set(chosen)
    assert len(chosen) == num_speakers
    assert split_by_speaker(clips[::-1], num_speakers, seed)[2] == chosen


def test_other_seeds_set_other_speakers_apart():
    clips = [clip("x", n, speaker=f"s{n % 20}") for n in range(100)]
    assert len({tuple(split_by_speaker(clips, 5, seed)[2]) for seed in range(8)}) == 8
