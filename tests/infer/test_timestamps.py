"""Word times: the best of all paths, in order, inside the sound, and none where there is none."""

import itertools
import math

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_audio import load
from tiny_audio.infer.ctc_head import CHARACTERS, CtcHead, CtcHeadConfig, encoder_id
from tiny_audio.infer.timestamps import (
    Aligner,
    align_words,
    best_path,
    confidences,
    frame_s,
    labels_of,
    load_aligner,
    word_spans,
)
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.generation import Written
from tiny_audio.presets import NANO


def random_log_probs(num_frames, num_classes, seed):
    values = torch.randn(num_frames, num_classes, generator=torch.Generator().manual_seed(seed))
    return (2 * values).log_softmax(-1).numpy()


# The path -------------------------------------------------------------------------------------


def collapsed(path):
    return [c for c, before in zip(path, [0, *path], strict=False) if c != before and c]


def brute_force(log_probs_TC, labels):
    """The best score of all sequences that collapse to the labels; None if there is none."""
    num_frames, num_classes = log_probs_TC.shape
    scores = [
        sum(log_probs_TC[t, c] for t, c in enumerate(path))
        for path in itertools.product(range(num_classes), repeat=num_frames)
        if collapsed(path) == labels
    ]
    return max(scores) if scores else None


@settings(max_examples=80)
@given(
    num_frames=st.integers(1, 6),
    labels=st.lists(st.integers(1, 2), max_size=4),
    seed=st.integers(0, 10_000),
)
def test_it_is_the_best_of_all_paths(num_frames, labels, seed):
    log_probs = random_log_probs(num_frames, 3, seed)
    best, path = brute_force(log_probs, labels), best_path(log_probs, labels)
    if best is None:
        assert path is None
        return
    states = np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    classes = states[path]
    assert collapsed(classes.tolist()) == labels
    assert log_probs[np.arange(num_frames), classes].sum() == pytest.approx(best, abs=1e-5)


def peaks(text, every=3):
    """Log-probabilities that spell a text, one character every few frames and blanks between."""
    labels, _ = labels_of([text])
    path = [c for label in labels for c in (label, *[0] * (every - 1))]
    probs = np.full((len(path), len(CHARACTERS) + 1), 0.001)
    probs[np.arange(len(path)), path] = 0.97
    return np.log(probs)


def test_words_are_found_where_their_characters_are():
    spans = word_spans(peaks("no on"), ["no", "on"])
    assert [tuple(s) for s in spans] == [(0, 4), (9, 13)]


def test_long_texts_are_aligned_too():
    words = ["november"] * 40  # 719 states
    spans = word_spans(peaks(" ".join(words)), words)
    assert [tuple(s) for s in spans] == [(27 * n, 27 * n + 22) for n in range(40)]


def test_a_word_without_spelling_takes_its_place_but_gets_no_time():
    log_probs = peaks("play twelve songs")
    first, unknown, last = word_spans(log_probs, ["play", "", "songs"])
    assert unknown is None
    assert (first, last) == tuple(word_spans(log_probs, ["play", "twelve", "songs"])[::2])


def test_more_characters_than_frames_give_no_times():
    assert word_spans(peaks("no"), ["november", "no"]) == [None, None]
    assert word_spans(peaks("no"), []) == []


# Words ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(0)
    model = toys.toy_preset("nano").build().eval()
    tower = model.audio_tower
    config = CtcHeadConfig(width=tower.config.width, encoder=encoder_id(tower), hidden=16)
    return Aligner(model, tower, CtcHead(config).eval())


@settings(max_examples=25)
@given(text=st.text("ab é7'.\n", max_size=25), tenths=st.integers(1, 12), offset=st.integers(0, 9))
def test_times_are_in_order_and_inside_the_sound(toy, text, tenths, offset):
    (clip,) = toys.clips(tenths * 1600)
    words = toy.words(clip, text, float(offset))
    assert [word.text for word in words] == text.split()
    times = [(w.start_s, w.end_s) for w in words if w.start_s is not None]
    flat = list(itertools.chain.from_iterable(times))
    assert flat == sorted(flat)
    assert all(offset <= t <= offset + tenths / 10 + 1e-9 for t in flat)
    assert all(start < end for start, end in times)
    assert all((w.start_s is None) == (w.end_s is None) for w in words)


def test_a_clip_longer_than_the_window_is_heard_in_windows(toy):
    most = toy.encoder.config.max_samples
    (clip,) = toys.clips(most + 16_000)
    frames = toy.frames(clip)
    assert len(frames) == most // 320 + 50
    assert torch.equal(frames[-50:], toy.frames(clip[most:]))


def test_a_frame_lasts_as_long_as_the_encoder_says():
    for name in ("whisper", "hubert"):
        for pool in ((1, 1), (5, 2)):
            config = toys.encoder_config(name, pool=pool)
            more = config.frames_for(9 * SAMPLE_RATE) - config.frames_for(SAMPLE_RATE)
            assert frame_s(config) == pytest.approx(8 / more)


# Confidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["one two three", "café мир 🙂 end", " a  b\n", "light", ""])
def test_a_words_confidence_is_the_geometric_mean_of_its_tokens(text):
    tokenizer = toys.tokenizer("qwen3")
    words, tokens, expected = text.split(), [], []
    for number, word in enumerate(words):
        ids = tokenizer.encode((" " if number else "") + word, add_special_tokens=False)
        logs = [-0.01 * (n + len(tokens)) for n in range(len(ids))]
        tokens += zip(ids, logs, strict=True)
        own = [p for i, p in zip(ids, logs, strict=True) if tokenizer.decode([i]) != " "]
        expected.append(math.exp(sum(own) / len(own)))
    written = Written([i for i, _ in tokens], [p for _, p in tokens], "stop")
    assert confidences(text, written, tokenizer) == pytest.approx(expected)
    stop = Written([*written.tokens, tokenizer.eos_token_id], [*written.logprobs, -9.0], "stop")
    assert confidences(text, stop, tokenizer) == pytest.approx(expected)


def test_confidences_of_another_text_are_refused_and_of_its_beginning_given():
    tokenizer = toys.tokenizer("qwen3")
    ids = tokenizer.encode("one two three", add_special_tokens=False)
    written = Written(ids, [-0.1] * len(ids), "loop")
    assert confidences("one two", written, tokenizer) == pytest.approx([math.exp(-0.1)] * 2)
    with pytest.raises(ValueError, match="one two three"):
        confidences("one too", written, tokenizer)


# Which head -----------------------------------------------------------------------------------


def test_a_model_without_a_head_says_what_to_type(toy):
    with pytest.raises(CheckpointError, match="train-head MODEL --data MANIFEST"):
        load_aligner(toy.model)


def test_a_checkpoints_own_head_is_found_and_a_named_one_comes_first(toy, tmp_path):
    toy.head.save(tmp_path / "ctc")
    found = load_aligner(toy.model, checkpoint=tmp_path)
    (clip,) = toys.clips(8_000)
    stored = CtcHead.from_pretrained(tmp_path / "ctc", toy.encoder)
    assert found.words(clip, "a b") == Aligner(toy.model, toy.encoder, stored).words(clip, "a b")
    with pytest.raises(CheckpointError, match="another encoder"):
        load_aligner(toy.model, NANO / "ctc", checkpoint=tmp_path)


# nano -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nano():
    return load_aligner(load("nano").eval())


def test_nano_gives_every_word_of_a_sample_its_time(nano):
    path, text = toys.samples()[0]
    samples = load_audio(path).samples
    window = Window(0, samples)
    (written,) = Transcriber(nano.model).write([window])
    words = nano.words(samples, text, 0.0, written)
    assert [word.text for word in words] == text.split()
    assert all(0.5 < word.confidence <= 1 for word in words)
    assert all(0.05 < word.end_s - word.start_s < 1.0 for word in words)


def test_silence_before_a_clip_moves_its_words(nano):
    path, text = toys.samples()[1]
    samples = load_audio(path).samples
    quiet = torch.cat([torch.zeros(SAMPLE_RATE), samples])
    for word, later in zip(nano.words(samples, text), nano.words(quiet, text), strict=True):
        assert later.start_s - word.start_s == pytest.approx(1.0, abs=0.081)
        assert later.end_s - word.end_s == pytest.approx(1.0, abs=0.081)


def test_the_frames_that_a_caller_has_give_the_same_words(nano):
    path, text = toys.samples()[0]
    samples = load_audio(path).samples
    with torch.inference_mode():
        frames_TE = nano.frames(samples)
        words = align_words(nano.head, frames_TE, text, frame_s=0.02)
    assert words == nano.words(samples, text)
