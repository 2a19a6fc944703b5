"""The step: losses and gradients against other ways of computing the same."""

from dataclasses import replace

import pytest
import torch
import toys
from torch import nn
from torch.nn import functional as F
from toy_runs import STAGES, WAVLM_LORA, toy_model, visit, visits

from tiny_audio.model.features import Frames, valid_mask
from tiny_audio.model.prompt import IGNORED
from tiny_audio.train import stages, task
from tiny_audio.train.batch import Collator
from tiny_audio.train.frames import FrameCache, clip_key
from tiny_audio.train.loop import Loop, LoopConfig
from tiny_audio.train.recipe import Stage
from tiny_audio.train.task import Listening, chunked_loss

FAMILIES = list(toys.DECODERS)
ENCODERS = ["whisper", "hubert_large", "wavlm"]


def gradients(listening, batch):
    """The losses of a batch, and all gradients by name."""
    listening.zero_grad()
    losses = listening(batch)
    losses.total.backward()
    named = listening.model.named_parameters()
    return losses, {n: p.grad.clone() for n, p in named if p.grad is not None}


def begin(model, name):
    stage = STAGES[name]
    if model.config.encoder.family == "wavlm" and stage.lora:
        stage = replace(stage, lora={**stage.lora, "encoder": WAVLM_LORA})
    stages.begin(model, stage)


def assert_same(one, other, rtol=1e-5, atol=1e-6):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=rtol, atol=atol, msg=name)


# The loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_a_chunk", [1, 8, 36, 37, 1000])
def test_chunks_change_nothing(monkeypatch, rows_a_chunk):
    monkeypatch.setattr(task, "CHUNK_LOGITS", 50 * rows_a_chunk + 13)
    torch.manual_seed(0)
    head, hidden_SD = nn.Linear(16, 50), torch.randn(37, 16, requires_grad=True)
    targets_S = torch.randint(0, 50, (37,))
    targets_S[:9] = head(hidden_SD)[:9].argmax(-1)
    total, correct = chunked_loss(head, hidden_SD, targets_S)
    total.backward()
    found = hidden_SD.grad.clone(), head.weight.grad.clone(), head.bias.grad.clone()
    head.zero_grad()
    hidden_SD.grad = None
    logits_SV = head(hidden_SD)
    whole = F.cross_entropy(logits_SV, targets_S, reduction="sum")
    whole.backward()
    torch.testing.assert_close(total, whole)
    for one, other in zip(found, (hidden_SD.grad, head.weight.grad, head.bias.grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert int(correct) == int((logits_SV.argmax(-1) == targets_S).sum()) >= 9


def test_a_chunk_of_logits_exists_at_a_time(monkeypatch):
    monkeypatch.setattr(task, "CHUNK_LOGITS", 50 * 128)
    seen = []
    head = nn.Linear(16, 50)
    head.register_forward_hook(lambda _module, _inputs, logits: seen.append(len(logits)))
    total, _ = chunked_loss(head, torch.randn(300, 16, requires_grad=True), torch.zeros(300).long())
    assert seen == [128] * 3
    total.backward()
    assert seen == [128] * 6  # computed again, not kept


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_models_own_forward(encoder, family):
    """Trap T22: shifted by one, once."""
    model = toy_model(encoder, family)
    batch = Collator(model)(visits(4))
    losses = Listening(model)(batch)
    values, lengths_B = batch.audio
    name = model.config.encoder.record.input_name
    out = model(
        input_ids=batch.ids_BL,
        attention_mask=batch.mask_BL,
        labels=batch.labels_BL,
        **{name: values, f"{name}_mask": valid_mask(lengths_B, values.shape[-1]).long()},
    )
    assert losses.tokens == int((batch.labels_BL != IGNORED).sum())
    torch.testing.assert_close(losses.total, out.loss * losses.tokens, rtol=1e-5, atol=1e-5)
    said = out.logits[:, :-1].argmax(-1) == batch.labels_BL[:, 1:]
    assert losses.correct == int(said.sum())


@pytest.mark.parametrize("stage", ["projector", "lora", "decoder", "encoder"])
def test_an_empty_micro_batch_takes_part_with_nothing(stage):
    model = toy_model("hubert_large")
    stages.begin(model, STAGES[stage])
    losses, found = gradients(Listening(model), None)
    assert float(losses.total.detach()) == 0
    assert (losses.tokens, losses.correct) == (0, 0)
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(gradient.any() for gradient in found.values())


def test_nothing_usable_is_an_empty_micro_batch(tmp_path):
    model = toy_model()
    stages.begin(model, STAGES["projector"])
    before = [p.detach().clone() for p in model.parameters()]
    config = LoopConfig(rates={"model.projector.": 1e-3}, steps=9, weight_decay=0.0, bf16=False)
    values = Loop(Listening(model), config, tmp_path).update([None])
    assert values == {"loss": 0, "token_accuracy": 0, "norm": 0, "skipped": 0, "tokens": 0}
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# Gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stage", list(STAGES))
def test_gradients_reach_what_trains_and_nothing_else(encoder, stage):
    model = toy_model(encoder).train()
    begin(model, stage)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zeros, before which no gradient reaches lora_A
            nn.init.normal_(parameter, std=0.02)
    _, found = gradients(Listening(model), Collator(model)(visits(3)))
    trains = {n for n, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trains
    assert {n.split(".")[0] for n in trains} == {
        stages.PREFIXES[part].rstrip(".") for part in STAGES[stage].learning_rate
    }
    toys.assert_gradients(model, zero=toys.UNSEEN)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_activations_are_computed_again(family):
    """Same gradients, and every layer of the decoder runs twice (trap T14)."""
    model = toy_model(decoder=family).train()
    batch, calls = Collator(model)(visits(3)), []
    for layer in model.language_model.base_model.layers:
        layer.self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    found = []
    for wanted in (False, True, False):
        stage = Stage(steps=1, checkpoint_activations=wanted)
        stages.begin(model, stage)
        calls.clear()
        losses, of = gradients(Listening(model), batch)
        found.append((losses.total.detach(), of))
        assert len(calls) == (4 if wanted else 2)
    for total, of in found[1:]:
        torch.testing.assert_close(total, found[0][0])
        assert_same(of, found[0][1])


def test_checkpointing_reaches_every_stage():
    model = toy_model().train()
    calls = []
    layer = model.language_model.base_model.layers[0]
    layer.self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    batch = Collator(model)(visits(3))
    for name in ("lora", "decoder"):
        stages.begin(model, replace(STAGES[name], checkpoint_activations=True))
        calls.clear()
        gradients(Listening(model), batch)
        assert len(calls) == 2


# Cached frames --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
def test_cached_frames_give_the_live_loss(encoder, tmp_path):
    """Exactly, from the same frames; in bfloat16 as the cache keeps them, to their rounding."""
    model = toy_model(encoder)
    stages.begin(model, STAGES["projector"])
    listening, live = Listening(model), Collator(model)(visits(4))
    frames, lengths_B = model.audio_tower(live.audio)
    heard = [f[:n] for f, n in zip(frames, lengths_B.tolist(), strict=True)]
    expected, of_live = gradients(listening, live)
    exact, of_exact = gradients(listening, Collator(model).collate(heard, visits(4)))
    torch.testing.assert_close(exact.total, expected.total, rtol=1e-6, atol=1e-6)
    assert_same(of_exact, of_live)

    cache = FrameCache(tmp_path, model.audio_tower)
    keys = [clip_key(v.example.sound, None, 0) for v in visits(4)]
    cache.add(zip(keys, heard, strict=True))
    cache.flush()
    collate = Collator(model, cache=cache, few_shapes=True)
    batch = collate(visits(4))
    assert isinstance(batch.audio, Frames)
    kept, of_kept = gradients(listening, batch)
    assert (kept.tokens, kept.correct) == (expected.tokens, kept.correct)
    torch.testing.assert_close(kept.total, expected.total, rtol=2**-7, atol=0)
    rounded = Collator(model).collate([f.bfloat16().float() for f in heard], visits(4))
    again, of_rounded = gradients(listening, rounded)
    torch.testing.assert_close(kept.total, again.total, rtol=1e-6, atol=1e-6)
    assert_same(of_kept, of_rounded)


@pytest.mark.parametrize("encoder", ["whisper", "hubert_large"])
def test_few_shapes_change_nothing(encoder):
    model = toy_model(encoder)
    listening = Listening(model)
    one = listening(Collator(model)(visits(4)))
    other = listening(Collator(model, few_shapes=True)(visits(4)))
    torch.testing.assert_close(one.total, other.total, rtol=1e-5, atol=1e-5)
    assert one.tokens == other.tokens


# A frozen encoder -----------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stage", ["projector", "lora", "decoder"])
def test_a_frozen_encoder_stays_as_it_is(encoder, stage):
    """No dropout, no mask, no LayerDrop after `train()` (trap T11)."""
    model = toy_model(encoder)
    begin(model, stage)
    listening = Listening(model)
    quiet = listening.eval()(Collator(model)(visits(3))).total
    listening.train()
    assert not any(module.training for module in model.audio_tower.modules())
    for _ in range(2):
        assert torch.equal(listening(Collator(model)(visits(3))).total, quiet)


def test_an_encoder_that_trains_has_its_dropout():
    """What the test above would see if the encoder were not kept from it."""
    model = toy_model("hubert_large")
    stages.begin(model, STAGES["encoder"])
    listening = Listening(model).train()
    once, again = (listening(Collator(model)(visits(3))).total for _ in range(2))
    assert model.audio_tower.model.training
    assert not torch.equal(once, again)


# Accumulation ---------------------------------------------------------------------------------


def loop_of(folder, stage="projector"):
    model = toy_model()
    stages.begin(model, STAGES[stage])
    rates = stages.rates(STAGES[stage])
    config = LoopConfig(rates=rates, steps=10, warmup_steps=1, bf16=False)
    return Loop(Listening(model), config, folder)


@pytest.mark.parametrize("stage", toys.quick(("projector", "decoder"), ("projector",)))
def test_eight_micro_batches_are_one_batch(tmp_path, stage):
    """Loss, norm and weights after three steps (trap T24): transcripts differ in length."""
    whole, parts = loop_of(tmp_path / "whole", stage), loop_of(tmp_path / "parts", stage)
    collate = Collator(whole.module.model)
    for step in range(3):
        heard = [visit(8 * step + n) for n in range(8)]
        one = whole.update([collate(heard)])
        eight = parts.update([collate([v]) for v in heard])
        for name in ("loss", "norm"):
            assert eight[name] == pytest.approx(one[name], rel=1e-5)
        assert (eight["tokens"], eight["token_accuracy"]) == (one["tokens"], one["token_accuracy"])
    for name, weight in whole.parameters.items():
        torch.testing.assert_close(parts.parameters[name], weight, rtol=1e-5, atol=1e-5, msg=name)


def test_a_step_follows_the_mean_over_all_its_tokens(tmp_path):
    """Its loss and norm are those of the model's own mean, however it is cut."""
    loop = loop_of(tmp_path)
    model, collate = loop.module.model, Collator(loop.module.model)
    batch = collate(visits(4))
    mean = model(
        input_ids=batch.ids_BL,
        input_features=batch.audio.values,
        input_features_mask=valid_mask(batch.audio.lengths_B, batch.audio.values.shape[-1]).long(),
        attention_mask=batch.mask_BL,
        labels=batch.labels_BL,
    ).loss
    mean.backward()
    norm = torch.stack([p.grad.norm() for p in loop.parameters.values()]).norm()
    model.zero_grad()
    values = loop.update([collate([v]) for v in visits(4)])
    assert values["loss"] == pytest.approx(float(mean.detach()), rel=1e-5)
    assert values["norm"] == pytest.approx(float(norm), rel=1e-5)


def test_an_empty_micro_batch_among_others_changes_nothing(tmp_path):
    one, other = loop_of(tmp_path / "one"), loop_of(tmp_path / "other")
    batch = Collator(one.module.model)(visits(3))
    assert one.update([batch]) == pytest.approx(other.update([None, batch, None]))
    for name, weight in one.parameters.items():
        assert torch.equal(other.parameters[name], weight)
