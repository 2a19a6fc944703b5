"""Micro-batches: what is supervised, what is asked, what is heard, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from toy_runs import WORDS, broken, example, toy_model, visit, visits

from tiny_audio.data.augment import Augment
from tiny_audio.data.mixture import Visit
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import PromptError
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.prompt import IGNORED, audio_token_id, stop_ids
from tiny_audio.train.batch import (
    Collator,
    cached_key,
    copy_of,
    parts_of,
    played,
    stretched,
    thinned,
)
from tiny_audio.train.data import Cost
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.task import Listening

FAMILIES = list(toys.DECODERS)
SAID = [*WORDS, "", "say <|im_end|> and <think>", "Ünïcode 你好 — \N{PILE OF POO}"]


def rows_of(batch):
    """ids and labels of every row, without its padding."""
    for ids, mask, labels in zip(batch.ids_BL, batch.mask_BL, batch.labels_BL, strict=True):
        length = int(mask.sum())
        assert mask[:length].all()  # training pads on the right
        assert (labels[length:] == IGNORED).all()
        yield ids[:length].tolist(), labels[:length].tolist()


# Labels and prompts ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_the_answer_and_its_stop_token_and_nothing_else(family):
    """Trap T20: whatever is not masked is decoded and compared with the text."""
    model = toy_model(decoder=family)
    tokenizer, stop = model.tokenizer, stop_ids(model.tokenizer, model.config.prompt)[0]
    said = [visit(n, text=text) for n, text in enumerate(SAID)]
    batch = Collator(model, few_shapes=True)(said)
    assert batch.ids_BL.shape[1] % 16 == 0
    for (ids, labels), text in zip(rows_of(batch), SAID, strict=True):
        first = next(at for at, label in enumerate(labels) if label != IGNORED)
        assert labels[first:] == ids[first:]
        *answer, last = labels[first:]
        assert tokenizer.decode(answer, clean_up_tokenization_spaces=False) == text
        assert last == stop
        assert not set(answer) & {stop, *tokenizer.get_added_vocab().values()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("encoder", ["whisper", "hubert_large"])
def test_the_prompt_trained_on_is_the_prompt_of_inference(family, encoder):
    """Ids and features: the same as those of the processor that serves the model (traps T10, T39).

    Prompts are given by clip: none, plain, and around the clip.
    """
    model = toy_model(encoder, family)
    asked = ["", "What is said?", "Hear <audio> and write it down."]
    batch = Collator(model)([visit(n, prompt=prompt) for n, prompt in enumerate(asked)])
    clips = [torch.from_numpy(example(n).sound.samples()) for n in range(3)]
    processor = AudioProcessor(model.tokenizer, model.config)
    texts = [prompt or model.config.prompt.instruction for prompt in asked]
    served = processor(audio=clips, text=texts, sampling_rate=16_000)
    rows = zip(rows_of(batch), served["input_ids"], served["attention_mask"], strict=True)
    for number, ((ids, labels), prompt, mask) in enumerate(rows):
        question = ids[: labels.index(next(label for label in labels if label != IGNORED))]
        assert question == prompt[mask.bool()].tolist()
        assert question.count(audio_token_id(model.tokenizer)) == model.config.positions_for(
            len(clips[number])
        )
    name = model.config.encoder.record.input_name
    assert torch.equal(batch.audio.values, served[name])
    assert torch.equal(batch.audio.lengths_B, served[f"{name}_mask"].sum(-1))


def test_a_sample_of_several_files_shares_a_batch_with_samples_of_one(tmp_path):
    """The published warm-up of MuFun took one file a sample."""
    model = toy_model()
    pair = replace(
        example(0), more=(example(1).sound, example(2).sound), prompt="Which is longest?"
    )
    around = replace(example(3), more=(example(0).sound,), prompt="<audio> or <audio>?")
    asked = [visit(1), Visit(pair, 0, 5), Visit(around, 0, 6)]
    batch = Collator(model)(asked)
    sizes = [[12_000], [8_000, 12_000, 9_600], [16_000, 8_000]]
    assert batch.audio.values.shape[0] == 6
    for (ids, _), of_row in zip(rows_of(batch), sizes, strict=True):
        positions = sum(map(model.config.positions_for, of_row))
        assert ids.count(audio_token_id(model.tokenizer)) == positions
    losses = Listening(model)(batch)
    assert torch.isfinite(losses.total)
    cache = FrameCache(tmp_path, model.audio_tower)
    parts = {cached_key(p, None, {}): p for one in asked for p in parts_of(one)}
    with torch.no_grad():
        for key, part in parts.items():
            clip = torch.from_numpy(part.example.sound.samples())
            frames_BTE, _ = model.audio_tower(model.audio_tower.features([clip]))
            cache.add([(key, frames_BTE[0])])
    cache.flush()
    cached = Listening(model)(Collator(model, cache=cache)(asked))
    assert cached.total.item() == pytest.approx(losses.total.item(), rel=2e-2)  # bfloat16 on disk


def test_a_question_with_other_counts_than_its_clips_is_refused_before_training():
    wrong = replace(example(0), more=(example(1).sound,), prompt="Only <audio>?")
    with pytest.raises(PromptError, match=r"1 <audio> .* 2 clip"):
        Cost(toy_model())(wrong)
    right = replace(wrong, prompt="<audio> or <audio>?", duration_s=example(0).duration_s * 2)
    one = replace(example(0), prompt="<audio> or ?")
    assert Cost(toy_model())(right) > Cost(toy_model())(one)


def test_a_batch_says_what_it_is():
    batch = Collator(toy_model())(visits(3))
    assert batch.where == ("clips:0", "clips:1", "clips:2")
    assert batch.audio_s == pytest.approx(0.5 + 0.75 + 0.6)
    lengths = batch.mask_BL.sum(1)
    assert batch.padding == pytest.approx(1 - float(lengths.sum()) / batch.mask_BL.numel())


# What is heard --------------------------------------------------------------------------------

FASTER = Augment(speed=1.0, speed_range=(1.2, 1.2), silence=0.0, noise=0.0, band=0.0, room=0.0)


def test_visits_hear_one_copy_after_another(tmp_path):
    """Visit k hears copy k mod n; copy 0 is the clip as recorded, with no augmentation's key."""
    model, copies = toy_model(), {"clips": 3}
    cache = FrameCache(tmp_path, model.audio_tower)
    for turn in range(3):
        frames = torch.full((10 + turn, 32), float(turn))
        cache.add([(cached_key(visit(0, turn), FASTER, copies), frames)])
    cache.flush()
    audio_of = Collator(model, FASTER, cache, copies).audio_of
    for turn in range(8):
        assert copy_of(visit(0, turn), FASTER, copies) == turn % 3
        frames = audio_of(visit(0, turn))
        assert frames.shape == (10 + turn % 3, 32)
        assert (frames == turn % 3).all()
    assert cached_key(visit(0), None, {}) == cached_key(visit(0), FASTER, copies)
    assert cached_key(visit(0, 3), FASTER, copies) == cached_key(visit(0), FASTER, copies)


def test_without_copies_or_augmentation_every_visit_hears_the_recording(tmp_path):
    assert [copy_of(visit(0, turn), None, {"clips": 3}) for turn in range(4)] == [0] * 4
    assert [copy_of(visit(0, turn), FASTER, {"other": 3}) for turn in range(4)] == [0] * 4
    model = toy_model()
    cache = FrameCache(tmp_path, model.audio_tower)
    cache.add([(cached_key(visit(0), None, {}), torch.ones(4, 32))])
    cache.flush()
    assert torch.equal(Collator(model, None, cache).audio_of(visit(0, 7)), torch.ones(4, 32))


def test_live_clips_are_augmented_by_the_seed_of_their_visit():
    one, other = visit(0), visit(0)._replace(seed=5)
    how = Augment(noise=1.0)
    assert np.array_equal(played(one, None), one.example.sound.samples())
    assert np.array_equal(played(one, how), played(one, how))
    assert not np.array_equal(played(one, how), played(other, how))
    live = Collator(toy_model(), how)([one])
    clip = torch.from_numpy(played(one, how))
    assert torch.equal(live.audio.values, features(toy_model().config.encoder, [clip]).values)


def test_a_clip_does_not_outgrow_the_encoders_window():
    """Slowed down, 28 s would be 35 s, and Whisper hears 30: it is heard as it was recorded."""
    model = toy_model()
    how = Augment(speed=1.0, speed_range=(0.8, 0.8), silence=0.0, noise=0.0, band=0.0)
    long = visit(0, size=28 * 16_000)
    clip = Collator(model, how).audio_of(long)
    assert torch.equal(clip, torch.from_numpy(long.example.sound.samples()))
    short = visit(0, size=16_000)
    assert len(Collator(model, how).audio_of(short)) == pytest.approx(20_000, abs=2)
    waveform = toy_model("hubert_large")  # no window
    assert len(Collator(waveform, how).audio_of(long)) == pytest.approx(35 * 16_000, abs=2)


def test_a_clip_longer_than_its_header_said_is_left_out():
    longer = visit(0, size=31 * 16_000)
    collate = Collator(toy_model())
    assert len(collate([longer, visit(1)]).ids_BL) == 1
    assert collate.dropped.counts() == {"longer than can be loaded": 1}


def test_what_augmentation_leaves_too_little_of_is_heard_as_recorded():
    how = Augment(speed=1.0, speed_range=(1.5, 1.5), silence=0.0)
    short = visit(0, size=2_000)
    assert np.array_equal(played(short, how), short.example.sound.samples())


@given(
    st.integers(1, 200),
    st.floats(0, 1),
    st.integers(0, 2**31 - 1),
    st.sampled_from([0.0, 0.05, 1.0]),
)
def test_thinned_frames_are_some_of_the_frames_in_order(length, share, seed, other):
    frames_TE = torch.arange(length * 2.0).view(length, 2)
    for part in (share, other):
        kept = thinned(frames_TE, part, seed)
        assert 1 <= len(kept) <= length
        assert torch.equal(kept, thinned(frames_TE, part, seed))
        rows = kept[:, 0] / 2
        assert (rows.diff() > 0).all()
        assert torch.equal(frames_TE[rows.long()], kept)
        if part == 0:
            assert len(kept) == length


def test_about_the_given_share_of_frames_goes():
    frames_TE = torch.zeros(1000, 1)
    kept = [len(thinned(frames_TE, 0.2, seed)) for seed in range(50)]
    assert np.mean(kept) == pytest.approx(800, abs=10)
    assert len(set(kept)) > 10


def test_stretched_frames_are_the_same_sound_at_another_tempo():
    ramp_TE = torch.linspace(0, 1, 100)[:, None].bfloat16()
    made = [stretched(ramp_TE, 0.25, seed) for seed in range(200)]
    lengths = [len(one) for one in made]
    assert (min(lengths), max(lengths)) == pytest.approx((80, 125), abs=1)
    assert sum(length > 100 for length in lengths) == pytest.approx(100, abs=20)
    for one, length in zip(made, lengths, strict=True):
        torch.testing.assert_close(one[:, 0], torch.linspace(0, 1, length), atol=0.02, rtol=0)
    assert torch.equal(made[7], stretched(ramp_TE, 0.25, 7))
    assert stretched(ramp_TE, 0.0, 7) is ramp_TE
    assert len(stretched(ramp_TE[:1], 0.25, 7)) == 1


# What cannot be heard -------------------------------------------------------------------------


def test_an_unusable_clip_is_counted_and_left_out():
    collate = Collator(toy_model())
    batch = collate([visit(0), broken(), visit(1)])
    assert batch.where == ("clips:0", "clips:1")
    whole = Collator(toy_model())([visit(0), visit(1)])
    assert torch.equal(batch.ids_BL, whole.ids_BL)
    assert torch.equal(batch.audio.values, whole.audio.values)
    assert collate.dropped.places == {"not audio": ["clips:99"]}


def test_a_batch_of_nothing_usable_is_none_and_counts_every_clip_once():
    collate = Collator(toy_model())
    assert collate([]) is None
    for turn in range(3):
        assert collate([broken(7)._replace(repeat=turn), broken(8)]) is None
    assert collate.dropped.places == {"not audio": ["clips:7", "clips:8"]}
