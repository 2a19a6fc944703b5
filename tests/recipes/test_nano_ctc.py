import pytest
import torch
from toys_nano import small_ctc_model

from recipes.nano.ctc import ENCODER_CONFIG, CtcBatch
from tiny_audio.model.encoder import features


def tones():
    time_s = torch.arange(16_000) / 16_000
    return [0.3 * torch.sin(2 * torch.pi * hz * time_s) for hz in (200, 900)]


@pytest.mark.slow
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
