"""Projectors: the formulas they promise, their scale, their gradients."""

import pytest
import torch
import toys
from pairs import model_of
from torch.nn import functional as F

from tiny_audio.model.encoder import features
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.identity import probe
from tiny_audio.model.projection import stack_frames
from tiny_audio.model.projector import (
    PROJECTORS,
    BlpConfig,
    MoeConfig,
    StatisticsProjector,
    SwigluConfig,
    TransformerConfig,
    build_projector,
    projector_config,
    rotate,
    rotations,
)

KINDS = list(PROJECTORS)


def test_stacking_lays_neighbours_side_by_side_and_pads_the_tail_with_zeros():
    frames_BTE = torch.arange(1, 15.0).reshape(1, 7, 2)
    stacked = stack_frames(frames_BTE, 3)
    assert stacked.shape == (1, 3, 6)
    assert stacked[0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert stacked[0, 2].tolist() == [13, 14, 0, 0, 0, 0]


def test_swiglu_is_the_course_s_six_steps():
    """149 frames → 150 → (30, 6400-like) → norm → gate and up → down → norm."""
    torch.manual_seed(0)
    projector = build_projector(SwigluConfig(k=5, hidden=24), 8, 16)
    frames_BTE = torch.randn(1, 149, 8)
    audio_BPD, lengths_B = projector(frames_BTE, torch.tensor([149]))
    assert lengths_B.tolist() == [30]
    x = F.pad(frames_BTE, (0, 0, 0, 1)).reshape(1, 30, 40)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * projector.ln_pre.weight
    gate, up = x @ projector.gate_proj.weight.T, x @ projector.up_proj.weight.T
    y = (gate * gate.sigmoid() * up) @ projector.down_proj.weight.T
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * projector.ln_post.weight
    torch.testing.assert_close(audio_BPD, y, rtol=1e-4, atol=1e-5)
    assert projector.k == 5


def test_a_transformer_projector_sees_both_sides_and_counts_what_its_docstring_says():
    torch.manual_seed(0)
    config = TransformerConfig(k=2, width=32, depth=1, heads=4)
    projector = build_projector(config, 8, 16)
    frames_BTE = torch.randn(1, 12, 8)
    changed_BTE = frames_BTE.clone()
    changed_BTE[:, -1] += 1.0
    before, after = projector(frames_BTE), projector(changed_BTE)
    assert (before - after).abs().amax(-1).min() > 1e-6  # the first position sees the last frame
    with torch.device("meta"):
        whole = build_projector(TransformerConfig(), 384, 576)
    assert sum(p.numel() for p in whole.parameters()) == 6_525_888


def test_rotation_depends_on_the_distance_alone():
    """A query and a key moved by the same number of positions have the same product (RoPE)."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 8)
    rotation = rotations(20, 8, "cpu")
    q, k = (rotate(x.expand(20, 8), rotation) for x in (query, key))
    torch.testing.assert_close(q[3] @ k[1], q[17] @ k[15])
    assert not torch.allclose(q[3] @ k[1], q[3] @ k[2])


def test_blp_is_linear_exact_gelu_linear():
    torch.manual_seed(0)
    projector = build_projector(BlpConfig(expand=2), 8, 16)
    frames_BTE = torch.randn(1, 6, 8)
    hidden = projector.linear_1(frames_BTE)
    exact = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(
        projector(frames_BTE, torch.tensor([6]))[0], projector.linear_2(exact)
    )
    assert projector.linear_1.out_features == 16


def test_mixture_of_experts_is_the_weighted_sum_of_its_experts():
    torch.manual_seed(0)
    projector = build_projector(MoeConfig(k=2, experts=3, hidden=5), 8, 16)
    frames_BTE = torch.randn(1, 8, 8)
    x = projector.norm(stack_frames(frames_BTE, 2))
    weights = projector.router(x).softmax(-1)
    first = projector.linear_1.weight.split(5), projector.linear_1.bias.split(5)
    second = projector.linear_2.weight.split(5, dim=1)
    summed = sum(
        weights[..., n : n + 1] * (F.gelu(x @ first[0][n].T + first[1][n]) @ second[n].T)
        for n in range(3)
    )
    torch.testing.assert_close(
        projector(frames_BTE, torch.tensor([8]))[0], summed, rtol=1e-4, atol=1e-5
    )


def test_a_windowed_qformer_hears_only_its_own_window():
    torch.manual_seed(0)
    projector = build_projector(toys.PROJECTORS["qformer"], 8, 16).eval()
    frames_BTE = torch.randn(1, 45, 8)
    changed = frames_BTE.clone()
    changed[:, 15:30] += 1
    lengths_B = torch.tensor([45])
    before, after = projector(frames_BTE, lengths_B)[0], projector(changed, lengths_B)[0]
    same = [torch.allclose(before[0, i], after[0, i], atol=1e-5) for i in range(9)]
    assert same == [True] * 3 + [False] * 3 + [True] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoder", ["whisper", "hubert"])
def test_a_fresh_projector_speaks_as_loud_as_the_decoder_s_words(encoder, kind):
    """Trap T27, also on a clip that is not the one it was scaled with."""
    model = model_of(encoder, kind)
    words = model.get_input_embeddings().weight.square().mean().sqrt().item()
    for clip, tolerance in ((probe(), 1e-4), (toys.clips(16_000, seed=4)[0], 0.3)):
        audio_BPD = model.embed_audio(features(model.config.encoder, [clip])).audio_BPD
        assert audio_BPD.square().mean().sqrt().item() == pytest.approx(words, rel=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_matching_the_scale_is_exact_on_the_clip_it_is_given(kind):
    torch.manual_seed(0)
    projector = build_projector(toys.PROJECTORS[kind], 8, 16)
    frames_BTE, lengths_B = torch.randn(2, 30, 8), torch.tensor([30, 11])
    projector.match_scale(frames_BTE, lengths_B, 0.02)
    audio_BPD, positions_B = projector(frames_BTE, lengths_B)
    valid = [row[:n] for row, n in zip(audio_BPD, positions_B.tolist(), strict=True)]
    assert torch.cat(valid).square().mean().sqrt().item() == pytest.approx(0.02, rel=1e-4)


def test_statistics_are_those_of_the_frames_that_are_there():
    projector = build_projector(toys.PROJECTORS["statistics"], 8, 16)
    assert isinstance(projector, StatisticsProjector)
    frames_BTE = torch.randn(2, 23, 8)
    lengths_B = torch.tensor([23, 14])
    frames_BTE[1, 14:] = 0  # as `forward` hands it on
    found = projector.statistics(frames_BTE, lengths_B)
    assert found.shape == (2, 3, 16)
    for row, position, part in ((0, 0, slice(0, 10)), (0, 2, slice(20, 23)), (1, 1, slice(10, 14))):
        spread, mean = torch.std_mean(frames_BTE[row, part], dim=0, unbiased=False)
        torch.testing.assert_close(found[row, position], torch.cat([mean, spread]))
    clips = [frames_BTE[0], frames_BTE[1, :14]]
    projector.standardise(clips)
    seen = torch.cat([projector.statistics(c[None], torch.tensor([len(c)]))[0] for c in clips])
    alike = (seen - projector.centre) / projector.spread
    torch.testing.assert_close(alike.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(alike.std(0, unbiased=False), torch.ones(16), atol=0.01, rtol=0)


def test_a_balance_of_experts_is_read_where_it_was_not_used_and_refused_where_it_was_asked_for():
    values = {"kind": "moe", "k": 4, "experts": 3, "hidden": 24}
    assert projector_config({**values, "balance": None}) == projector_config(values)
    with pytest.raises(ConfigError, match="balance"):
        projector_config({**values, "balance": 0.5})
