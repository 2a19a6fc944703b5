import numpy as np
import torch
from toys_train import small_ctc_model

from tiny_audio.model.encoder import Features, features
from tiny_audio.train.ctc import (
    CHARACTERS,
    ENCODER_CONFIG,
    CtcBatch,
    decode_path,
    encode_characters,
    mask_patches,
    word_errors,
)


def tones():
    time_s = torch.arange(16_000) / 16_000
    return [0.3 * torch.sin(2 * torch.pi * hz * time_s) for hz in (200, 900)]


def test_a_path_collapses_to_its_text():
    ids = encode_characters("see it's")
    path = [i for c in ids for i in (c, c, 0)]
    assert decode_path(path) == "see it's"
    assert decode_path([0, 0]) == ""
    assert len(CHARACTERS) == 28


def test_a_tiny_encoder_learns_two_clips_by_heart():
    model = small_ctc_model()
    batch = CtcBatch(features(ENCODER_CONFIG, tones()), ["yes", "no"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        total, count = model.loss(batch)
        assert count == 5
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    assert model.transcribe(batch.features) == ["yes", "no"]


def test_a_clip_without_text_has_a_finite_loss_and_counts():
    total, count = small_ctc_model().loss(CtcBatch(features(ENCODER_CONFIG, tones()), ["", ""]))
    assert torch.isfinite(total)
    assert count == 2


def test_masks_stay_inside_the_clip():
    values = torch.arange(80 * 300).float().view(1, 80, 300).clone()
    before = values.clone()
    mask_patches(Features(values, torch.tensor([200])), np.random.default_rng(1))
    changed = values != before
    assert changed.any()
    assert not changed[..., 200:].any()
    assert changed.float().mean() < 0.4


def test_word_errors_are_counted_over_the_corpus():
    score = word_errors(["one two three", ""], ["one too three", "noise"])
    assert score["words"] == 3
    assert (score["substitutions"], score["deletions"], score["insertions"]) == (1, 0, 1)
    assert score["wer"] == 2 / 3
