"""Encoder, projector, decoder and character head trained together, at toy width."""

import numpy as np
import pytest
import torch
import toys
from toys_nano import ENCODER, SENTENCES, small_model

from recipes.nano import ctc, joint, lm
from recipes.nano.batching import Item
from recipes.nano.shards import open_store, write_shard


@pytest.fixture
def items(tmp_path):
    rng = np.random.default_rng(0)
    samples = [rng.integers(-3000, 3000, n).astype(np.int16) for n in (30_000, 41_000)]
    rows = [{"text": text, "kind": "test", "speaker": "x"} for text in SENTENCES[:2]]
    write_shard(tmp_path, 0, samples, rows)
    return [Item((clip,), (0.0,), 0, None) for clip in open_store(tmp_path)]


def make(ctc_weight=0.3):
    model = small_model()
    text = lm.DecoderTask(model.language_model, model.tokenizer, lambda rng: (SENTENCES[0], ""))
    torch.manual_seed(1)
    listener = ctc.CtcModel(ctc.empty_encoder(ENCODER))
    return joint.JointTask(model, text, listener, ctc_weight)


def test_gradients_reach_all_three_parts_and_the_head(items):
    task = make()
    total, count = task.loss(task.batch(items, seed=0, step=1, text_rows=2))
    (total / count).backward()
    toys.assert_gradients(task)
    frozen = {n for n, p in task.named_parameters() if not p.requires_grad}
    assert all(name.endswith("embed_positions.weight") for name in frozen)  # sinusoids stay


def test_the_character_loss_is_added_with_its_weight(items):
    none, some, more = (make(weight) for weight in (0.0, 0.3, 0.6))
    batch = none.batch(items, seed=0, step=1, text_rows=2)
    (a, count), (b, _), (c, _) = (task.loss(batch) for task in (none, some, more))
    assert count == int(
        (batch.labels_BL[:, 1:] >= 0).sum() + (batch.text_rows.labels_BL[:, 1:] >= 0).sum()
    )
    torch.testing.assert_close(c - a, 2 * (b - a))
    assert b > a
