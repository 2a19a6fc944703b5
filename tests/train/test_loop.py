import json
import time

import pytest
import torch
from torch import nn

from tiny_audio.model.errors import CheckpointError
from tiny_audio.train.loop import Loop, LoopConfig, each_step
from tiny_audio.train.saves import last_save, module_weights, read_counters, saves


class Line(nn.Module):
    """Two linear layers fitting y = 3 x with a summed squared error."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 4)})
        self.core = nn.ModuleDict({"layers": layers})

    def loss(self, x):
        layers = self.core["layers"]
        out = layers["b"](torch.tanh(layers["a"](x)))
        return (out - 3 * x).square().sum(), x.numel()


def batch(step):
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(step))


def make(folder, optimizer="adamw", steps=20):
    module = Line()
    config = LoopConfig(
        rates={"": 5e-2},
        steps=steps,
        warmup_steps=5,
        bf16=False,
        optimizer=optimizer,
        log_every=5,
        keep=1,
    )
    return Loop(module, config, folder, module.loss)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_equals_uninterrupted(tmp_path, optimizer):
    whole = make(tmp_path / "whole", optimizer)
    whole.run(each_step(batch))
    make(tmp_path / "parts", optimizer).run(each_step(batch), stop_after=9)
    resumed = make(tmp_path / "parts", optimizer)
    assert resumed.resume()
    assert resumed.step == 9
    resumed.run(each_step(batch))
    for expected, found in zip(
        whole.module.state_dict().values(), resumed.module.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found)


def test_the_loss_falls_and_is_logged(tmp_path):
    loop = make(tmp_path, steps=100)
    loop.run(each_step(batch))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 100
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["learning_rate"] < rows[10]["learning_rate"]


def test_evaluations_come_before_the_first_step_soon_after_it_and_then_at_even_distances(
    tmp_path, monkeypatch
):
    """The clock goes on by a second a step, and by 100 s in every evaluation."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    module = Line()
    config = LoopConfig(
        rates={"": 1e-3}, budget_s=40.0, bf16=False, evaluate_every_s=10.0, save_every_s=1e9
    )
    loop, found = Loop(module, config, tmp_path, module.loss), []

    def each(step):
        clock[0] += 1.0
        return batch(step)

    def evaluate():
        found.append(loop.step)
        if len(found) <= 2:
            clock[0] += 100.0
        return {"kind": "evaluation"}

    loop.run(each_step(each), evaluate)
    first, early, *others = found
    assert first == 0
    assert 1 <= early <= 4
    assert 9 <= others[0] <= 13
    assert loop.elapsed_s == pytest.approx(40.0, abs=2.5)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if r["kind"] == "evaluation"] == found
    assert found[-1] == loop.step


def test_a_run_that_goes_on_is_not_evaluated_at_once(tmp_path):
    def evaluate():
        found.append(True)
        return {"kind": "evaluation"}

    found = []
    make(tmp_path).run(each_step(batch), stop_after=2)
    resumed = make(tmp_path)
    assert resumed.resume()
    resumed.run(each_step(batch), evaluate)
    assert len(found) == 1  # at the end


def test_a_batch_that_is_not_finite_changes_nothing(tmp_path):
    loop = make(tmp_path)
    before = {k: v.clone() for k, v in loop.module.state_dict().items()}
    assert loop.update([torch.full((2, 4), float("nan"))])["skipped"] == 1
    assert all(torch.equal(before[k], v) for k, v in loop.module.state_dict().items())


def test_the_loss_is_a_mean_over_all_tokens(tmp_path):
    """Rows given twice leave loss and gradient as they are; parts of unequal size add up."""
    rows = batch(0)
    once = make(tmp_path / "a").update([rows])
    twice = make(tmp_path / "b").update([torch.cat([rows, rows])])
    assert twice["loss"] == pytest.approx(once["loss"])
    assert twice["norm"] == pytest.approx(once["norm"])
    parts = [
        make(tmp_path / str(n)).update([part])["loss"]
        for n, part in enumerate([rows[:1], rows[1:]])
    ]
    assert (parts[0] + 5 * parts[1]) / 6 == pytest.approx(once["loss"])


def test_saves_rotate(tmp_path):
    loop = make(tmp_path)
    for _ in range(3):
        loop.run(each_step(batch), stop_after=2)
    assert [p.name for p in saves(tmp_path)] == ["step-00000006.safetensors"]


def test_training_stops_when_nothing_is_finite_any_more(tmp_path):
    loop = make(tmp_path)
    with pytest.raises(FloatingPointError, match="20 steps in a row"):
        loop.run(each_step(lambda step: torch.full((2, 4), float("nan"))))
    assert loop.step == 20


class Tied(Line):
    """The second layer's weight has two names."""

    def __init__(self, size=8):
        super().__init__()
        self.again = nn.Linear(size, 4, bias=False)
        if size == 8:
            self.again.weight = self.core["layers"]["b"].weight


def test_a_tensor_with_two_names_is_saved_once_and_resumed(tmp_path):
    def loop():
        module = Tied()
        config = LoopConfig(steps=8, bf16=False, warmup_steps=1, rates={"": 1e-2})
        return Loop(module, config, tmp_path, module.loss)

    first = loop()
    first.run(each_step(batch), stop_after=4)
    assert "again.weight" not in module_weights(last_save(tmp_path))
    second = loop()
    assert second.resume()
    assert second.module.again.weight is second.module.core["layers"]["b"].weight
    assert torch.equal(first.module.again.weight, second.module.again.weight)


def test_the_save_of_another_run_is_refused(tmp_path):
    make(tmp_path).run(each_step(batch), stop_after=2)
    for module in (Tied(), Tied(size=4)):
        config = LoopConfig(rates={"": 1e-3}, steps=8, bf16=False)
        with pytest.raises(CheckpointError, match="saved by another run: origin"):
            Loop(module, config, tmp_path, module.loss).resume()


def test_a_save_holds_weights_and_counters(tmp_path):
    loop = make(tmp_path)
    loop.run(each_step(batch), stop_after=3)
    path = last_save(tmp_path)
    assert read_counters(path)["step"] == 3
    assert set(module_weights(path, "core.layers.a.")) == {"weight", "bias"}


def test_one_kind_of_budget_is_given(tmp_path):
    module = Line()
    with pytest.raises(ValueError, match="exactly one of steps and budget_s"):
        Loop(module, LoopConfig(rates={"": 1e-3}), tmp_path, module.loss)
