"""Two processes (gloo, CPU) compute what one computes."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_loop import Line

from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.train.distributed import backend_of, launch, whole, world_size
from tiny_audio.train.loop import Loop, LoopConfig, each_step
from tiny_audio.train.saves import last_save, part_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spawns_at_once")]
TOLERANCE = {"adamw": 1e-5, "muon": 2e-4}  # Muon orthogonalises in bfloat16
SIZES = (7, 3)  # rows of the two processes' batches: the mean is over all rows


def rows(number):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(SIZES[number % 2], 4, generator=generator)


def train(arguments):
    """`arguments.steps` more steps on own rows in each process, or on all rows in one."""
    module = Line()
    config = LoopConfig(
        rates={"": 1e-2}, steps=10, warmup_steps=2, bf16=False, log_every=1,
        optimizer=arguments.optimizer, strategy=arguments.strategy,
    )  # fmt: skip
    loop = Loop(module, config, arguments.folder, module.loss)
    loop.resume()
    alone = world_size() == 1

    def batch(row):
        return torch.cat([rows(2 * row), rows(2 * row + 1)]) if alone else rows(row)

    loop.run(each_step(batch), stop_after=arguments.steps)
    state = {name: whole(p.detach()) for name, p in module.named_parameters()}
    if torch.distributed.is_initialized():
        path = arguments.folder / f"weights-{torch.distributed.get_rank()}.safetensors"
    else:
        path = arguments.folder / "weights-0.safetensors"
    save_file(state, path)


def run(folder, processes, optimizer="adamw", steps=10, strategy="ddp"):
    folder.mkdir(exist_ok=True)
    options = {"optimizer": optimizer, "steps": steps, "strategy": strategy}
    launch(train, SimpleNamespace(folder=folder, **options), processes)
    return load_file(folder / "weights-0.safetensors")


KINDS = [("adamw", "ddp"), ("muon", "ddp"), ("adamw", "fsdp")]


@pytest.mark.parametrize(("optimizer", "strategy"), KINDS)
def test_two_processes_are_one(tmp_path, optimizer, strategy):
    one = run(tmp_path / "one", 1, optimizer)
    two = run(tmp_path / "two", 2, optimizer, strategy=strategy)
    other = load_file(tmp_path / "two" / "weights-1.safetensors")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=TOLERANCE[optimizer], rtol=1e-4)
        assert torch.equal(two[name], other[name]), name
    logs = [
        [json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    for alone, together in zip(*logs, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["norm"] == pytest.approx(alone["norm"], rel=1e-4)


@pytest.mark.parametrize(("optimizer", "strategy"), KINDS)
def test_two_processes_resume_exactly(tmp_path, optimizer, strategy):
    unbroken = run(tmp_path / "whole", 2, optimizer, strategy=strategy)
    run(tmp_path / "parts", 2, optimizer, steps=4, strategy=strategy)
    resumed = run(tmp_path / "parts", 2, optimizer, steps=6, strategy=strategy)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_process_goes_on_where_two_stopped(tmp_path, strategy):
    unbroken = run(tmp_path / "whole", 1)
    run(tmp_path / "parts", 2, steps=4, strategy=strategy)
    resumed = run(tmp_path / "parts", 1, steps=6)
    for name, weight in unbroken.items():
        torch.testing.assert_close(resumed[name], weight, atol=1e-5, rtol=1e-4)


def test_muon_in_another_number_of_processes_is_refused(tmp_path):
    run(tmp_path, 2, "muon", steps=2)
    with pytest.raises(CheckpointError, match="processes 2, now 1"):
        run(tmp_path, 1, "muon", steps=2)
    part_of(last_save(tmp_path), 1).unlink()
    with pytest.raises(Exception, match="has lost step-00000002-1"):
        run(tmp_path, 2, "muon", steps=2)


def test_a_gpu_serves_one_process(monkeypatch):
    assert backend_of("cpu", 2) == "gloo"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert backend_of("", 2) == backend_of("cuda", 1) == "nccl"
    assert backend_of("cpu", 8) == "gloo"
    with pytest.raises(ConfigError, match=r"3 processes, but 2 GPU"):
        backend_of("", 3)
