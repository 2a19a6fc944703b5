"""Clips encoded in groups of like length give what one batch gives."""

import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from pairs import batch_of, features_of, model_of

from tiny_audio.infer.grouping import LIKENESS, alike, embed_by_length


@pytest.mark.parametrize("encoder", ["whisper", "hubert", "hubert_large"])
def test_groups_give_what_one_batch_gives(encoder):
    model = model_of(encoder, "swiglu")
    heard = features_of(batch_of(model, toys.clips(9_000, 400, 23_456, 8_500, 130, 22_000)))
    assert len(list(alike(heard.lengths_B, 10**9))) == 3
    with torch.no_grad():
        ours, theirs = embed_by_length(model, heard), model.embed_audio(heard)
    torch.testing.assert_close(ours[0], theirs.audio_BPD, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours[1], theirs.lengths_B)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40), st.integers(1, 9000))
def test_every_clip_is_in_one_group_and_groups_are_small_and_hold_little_padding(lengths, most):
    groups = [rows.tolist() for rows in alike(torch.tensor(lengths), most)]
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        members = [lengths[row] for row in rows]
        assert min(members) >= LIKENESS * max(members)
        assert len(members) == 1 or len(members) * max(members) <= most
