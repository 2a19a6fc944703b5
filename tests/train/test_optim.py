"""Muon is torch's, and computes in the faster of two float types."""

import pytest
import torch

from tiny_audio.train import optim
from tiny_audio.train.optim import SharedMuon, orthogonal


@pytest.mark.parametrize(("fast", "tolerance"), [(True, 1e-6), (False, 0.02)])
def test_muon_moves_matrices_as_torch_does(monkeypatch, fast, tolerance):
    """In bfloat16 but for rounding; in float32 within what torch's bfloat16 loses."""
    monkeypatch.setattr(optim, "multiplies_bf16", lambda device: fast)
    draw = torch.Generator().manual_seed(0)
    own = {
        f"m.layers.{n}": torch.nn.Parameter(torch.randn(shape, generator=draw))
        for n, shape in enumerate([(24, 16), (16, 24)])
    }
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in own.values()]
    ours = SharedMuon(own, {"": 0.1}, 0.05)
    torchs = torch.optim.Muon(theirs, 0.1, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for mine, other in zip(own.values(), theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=draw)
            other.grad = mine.grad.clone()
        ours.step()
        torchs.step()
    moved = 4 * 0.1 * 0.2 * 24**0.5  # at most, for one number
    for mine, other in zip(own.values(), theirs, strict=True):
        assert (mine - other).abs().max() < tolerance * moved


def test_orthogonal_matrices_have_singular_values_near_one():
    for shape in ((24, 16), (16, 24), (20, 20)):
        found = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        assert found.shape == shape
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.5
        assert values.max() < 1.3
