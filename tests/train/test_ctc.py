import numpy as np
import pytest
import torch

from tiny_audio.model.features import Features
from tiny_audio.train.ctc import colour, mask_patches, stretch_pitch


def test_masks_stay_inside_the_clip():
    values = torch.arange(80 * 300).float().view(1, 80, 300).clone()
    before = values.clone()
    mask_patches(Features(values, torch.tensor([200])), np.random.default_rng(1))
    changed = values != before
    assert changed.any()
    assert not changed[..., 200:].any()
    assert changed.float().mean() < 0.4


@pytest.mark.parametrize("change", [stretch_pitch, colour])
def test_other_voices_and_microphones_leave_the_padding_alone(change):
    values = torch.rand(6, 80, 300)
    values[..., 200:] = 0
    before, lengths = values.clone(), torch.full((6,), 200)
    change(Features(values, lengths), np.random.default_rng(3))
    changed = (values != before).any(dim=(1, 2))
    assert 0 < changed.sum() < 6  # about half of the clips
    assert not values[..., 200:].any()
    again = before.clone()
    change(Features(again, lengths), np.random.default_rng(3))
    assert torch.equal(values, again)
