import pytest
import torch
import toys
from toys_nano import SENTENCES, small_model

from recipes.nano import align, lm
from recipes.nano.ctc import CtcBatch
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.checkpoint import scale_projector
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.features import pad_frames
from tiny_audio.train.loop import Loop, LoopConfig, each_step


def clips():
    sizes = {8_000: 200, 12_000: 500, 16_000: 1200, 20_000: 3000}  # samples: Hz
    return [torch.sin(torch.arange(n) * hz * 2 * torch.pi / 16_000) for n, hz in sizes.items()]


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def cached(model, tmp_path):
    batch = CtcBatch(features(model.config.encoder, clips()), SENTENCES)
    assert align.encode_shard(model.audio_tower, [batch, batch], tmp_path / "f.safetensors") == 8
    return align.read_frames(tmp_path)


def test_cached_frames_are_the_live_frames(model, cached):
    live, lengths_B = model.audio_tower(features(model.config.encoder, clips()))
    for row, length, kept in zip(live, lengths_B.tolist(), cached, strict=False):
        assert kept.frames_TE.dtype == torch.bfloat16
        torch.testing.assert_close(
            kept.frames_TE.float(), row[:length].detach(), atol=0.1, rtol=0.1
        )
    assert [h.text for h in cached] == SENTENCES * 2


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_reach_what_trains_and_nothing_else(model, cached, frozen):
    model.language_model.requires_grad_(not frozen)
    text = lm.DecoderTask(model.language_model, model.tokenizer, lambda rng: (SENTENCES[0], ""))
    task = align.AlignTask(model, cached, None if frozen else text)
    total, count = task.loss(task.batch(0, 0, rows=2, text_rows=2))
    (total / count).backward()
    toys.assert_gradients(model)
    trains = {name.split(".")[0] for name in model.trainable()}
    assert trains == {"projector"} | (set() if frozen else {"language_model"})


def test_batches_are_a_function_of_the_step(model, cached):
    task = align.AlignTask(model, cached)
    once, again = (task.batch(0, 5, rows=2, text_rows=0) for _ in range(2))
    assert torch.equal(once.ids_BL, again.ids_BL)
    assert all(torch.equal(a, b) for a, b in zip(once.frames, again.frames, strict=True))


@pytest.mark.slow
def test_it_learns_and_writes_what_it_learnt(model, cached, tmp_path):
    model.language_model.requires_grad_(True)
    model.eval()
    scale_projector(model, pad_frames([h.frames_TE for h in cached]))
    task = align.AlignTask(model, cached[:4] * 3)
    config = LoopConfig(rates={"": 1e-2}, steps=160, warmup_steps=10, bf16=False, log_every=100)
    loop = Loop(task, config, tmp_path / "loop", task.loss)
    loop.run(each_step(lambda step: task.batch(0, step, rows=3, text_rows=0)))
    written = Transcriber(model).transcribe_windows([Window(0, clip) for clip in clips()])
    assert sum(w.text == text for w, text in zip(written, SENTENCES, strict=True)) >= 3
    assert {w.outcome for w in written} == {"ok"}


def test_frames_of_another_encoder_are_refused(model, tmp_path):
    batch = CtcBatch(features(model.config.encoder, clips()), SENTENCES)
    align.encode_shard(model.audio_tower, [batch], tmp_path / "f.safetensors", "one encoder")
    assert len(align.read_frames(tmp_path, "one encoder")) == 4
    with pytest.raises(CheckpointError, match="another encoder"):
        align.read_frames(tmp_path, "another")
