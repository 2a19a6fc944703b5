"""The training loop of all of nano's stages: seeded, resumable, by steps or by the clock.

Batches are a function of the step, so a run by steps that is stopped and taken up again computes
the same numbers as one that was not. A budget in seconds schedules on the elapsed share instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tiny_audio.model.errors import CheckpointError
from tiny_audio.progress import progress
from tiny_audio.train.distributed import rank, sum_gradients, wait_for_all, world_size
from tiny_audio.train.optim import adamw, load_state_tensors, muon, state_tensors

Batch = Any
Loss = Callable[[Batch], tuple[Tensor, int]]  # sum of losses, count of supervised tokens


MOST_SKIPPED = 20


@dataclass(frozen=True)
class LoopConfig:
    """One of `steps` and `budget_s` is given."""

    learning_rate: float = 1e-3
    steps: int = 0
    budget_s: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    warmup_steps: int = 100
    final_rate: float = 0.02  # of the learning rate, at the end of the cosine
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    bf16: bool = True
    save_every_s: float = 180.0
    evaluate_every_s: float = 600.0
    log_every: int = 50


class Loop:
    """Trains the parameters of `module` that require gradients."""

    def __init__(self, module: nn.Module, loss: Loss, config: LoopConfig, folder: Path):
        if (config.steps > 0) == (config.budget_s > 0):
            raise ValueError("Give either steps or budget_s, not both and not neither.")
        self.module, self.loss, self.config, self.folder = module, loss, config, folder
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.origin = fingerprint(module)  # what this run began from; a save says it
        make = muon if config.optimizer == "muon" else adamw
        self.optimizers = make(module, config.weight_decay)
        self.step, self.elapsed_s, self.skipped_in_a_row = 0, 0.0, 0
        self._start_clock()
        folder.mkdir(parents=True, exist_ok=True)

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        config = self.config
        return self.step / config.steps if config.steps else self.elapsed_s / config.budget_s

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to `final_rate`."""
        config = self.config
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.progress(), 1.0)))
        factor = config.final_rate + (1 - config.final_rate) * cosine
        warm = min(1.0, (self.step + 1) / max(config.warmup_steps, 1))
        return config.learning_rate * factor * warm

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; a batch whose gradient is not finite changes nothing.

        After `MOST_SKIPPED` of those in a row training stops: its weights are beyond repair.
        """
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = self.learning_rate()
        with autocast(self.config.bf16):
            total, own_count = self.loss(batch)
        total.backward()
        loss, count, self.elapsed_s = sum_gradients(
            self.parameters, float(total.detach()), own_count, self._clock() if rank() == 0 else 0.0
        )
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.div_(count)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        finite = bool(torch.isfinite(norm))
        for optimizer in self.optimizers if finite else ():
            optimizer.step()
        for parameter in self.parameters:  # also those that another process's optimiser moves
            parameter.grad = None
        self.step += 1
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row == MOST_SKIPPED:
            raise FloatingPointError(
                f"The gradients of {MOST_SKIPPED} steps in a row were not finite, up to step "
                f"{self.step}. Go on from the last save in {self.folder} with a lower rate."
            )
        return {
            "loss": loss / count,
            "norm": float(norm),
            "skipped": float(not finite),
        }

    def run(
        self,
        batches: Callable[[int], Batch],
        evaluate: Callable[[], dict[str, Any]] | None = None,
        stop_after: int | None = None,
    ) -> None:
        """Train to the end of the budget (or `stop_after` more steps), then save and evaluate."""
        self.module.train()
        last = self.step + stop_after if stop_after is not None else None
        saved_s = evaluated_s = self.elapsed_s
        self._start_clock()
        window: list[dict[str, float]] = []
        bar = progress(counts=False, disable=rank() > 0)
        with ThreadPoolExecutor(1, initializer=_one_thread) as ahead, bar:
            shown = bar.add_task(self.folder.name, total=1.0)
            job = ahead.submit(batches, self._row(self.step))
            while self.progress() < 1 and self.step != last:
                batch = job.result()
                job = ahead.submit(batches, self._row(self.step + 1))
                window.append(self.update(batch))
                said = f"{self.folder.name}: step {self.step}, loss {window[-1]['loss']:.2f}"
                bar.update(shown, completed=self.progress(), description=said)
                if self.step % self.config.log_every == 0:
                    self.log(self._summary(window))
                    window = []
                if self.elapsed_s - saved_s > self.config.save_every_s:
                    self.save()
                    saved_s = self.elapsed_s
                if evaluate and self.elapsed_s - evaluated_s > self.config.evaluate_every_s:
                    wait([job])  # a tokenizer cannot be used by two threads at once
                    self.log(self._evaluate(evaluate))
                    evaluated_s = self.elapsed_s
        self.save()
        if evaluate:
            self.log(self._evaluate(evaluate))

    def _row(self, step: int) -> int:
        """Each process takes its own batch of a step."""
        return step * world_size() + rank()

    def _start_clock(self) -> None:
        self._origin = time.monotonic() - self.elapsed_s

    def _clock(self) -> float:
        return time.monotonic() - self._origin

    def _evaluate(self, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if rank():
            return {}  # the others wait in the next step's sum
        self.module.eval()
        with torch.no_grad(), autocast(self.config.bf16):
            result = evaluate()
        self.module.train()
        return result

    def _summary(self, window: list[dict[str, float]]) -> dict[str, float]:
        count = max(len(window), 1)
        mean = {k: sum(w[k] for w in window) / count for k in ("loss", "norm")}
        skipped = sum(w["skipped"] for w in window)
        return {**mean, "skipped": skipped, "learning_rate": self.learning_rate()}

    def log(self, values: dict[str, Any]) -> None:
        """One JSON line to `log.jsonl`, and the same to the terminal."""
        if rank():
            return
        row = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1), **_rounded(values)}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def save(self) -> None:
        """Weights, optimiser state and counters: safetensors with JSON in the header, no pickle.

        The other processes' optimiser states (each holds that of other matrices) are written
        first; the save counts when `last.safetensors` is there.
        """
        tensors = state_tensors(self.optimizers)
        if rank():
            self._write(self._part(self.step, rank()), tensors)
        wait_for_all()
        if rank() == 0:
            state = self.module.state_dict()
            tensors |= {f"module.{name}": state[name] for name in owners(state).values()}
            self._write(self._path(), tensors)
            for old in set(self.folder.glob("last-*.safetensors")) - self._parts(self.step):
                old.unlink()

    def _write(self, target: Path, tensors: dict[str, Tensor]) -> None:
        counters = {"step": self.step, "elapsed_s": self.elapsed_s}
        about = {**counters, "origin": self.origin, "processes": world_size()}
        temporary = target.with_suffix(".tmp")
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary,
            {"counters": json.dumps(about)},
        )
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)

    def _path(self) -> Path:
        return self.folder / "last.safetensors"

    def _part(self, step: int, number: int) -> Path:
        return self.folder / f"last-{step}-{number}.safetensors"

    def _parts(self, step: int) -> set[Path]:
        return {self._part(step, number) for number in range(1, world_size())}

    def resume(self) -> bool:
        """Take up the last save of this folder; False when there is none.

        Raises `CheckpointError` for the save of another run, or of another number of processes.
        """
        if not self._path().exists():
            return False
        counters = read_counters(self._path())
        own = {"origin": self.origin, "processes": world_size()}
        for key, value in own.items():
            if counters.get(key) != value:
                raise CheckpointError(
                    f"{self._path()} was saved by another run: {key} {counters.get(key)}, now "
                    f"{value}. Go on as it began, or delete {self.folder} to begin anew."
                )
        if lost := sorted(p.name for p in self._parts(counters["step"]) if not p.exists()):
            raise CheckpointError(f"{self.folder} has lost {', '.join(lost)} of its save.")
        tensors = load_file(self._path())
        state = self.module.state_dict()
        stored = {name: f"module.{owner}" for name, owner in owners(state).items()}
        self.module.load_state_dict({name: tensors[key] for name, key in stored.items()})
        part = load_file(self._part(counters["step"], rank())) if rank() else tensors
        load_state_tensors(self.optimizers, part)
        self.step, self.elapsed_s = counters["step"], counters["elapsed_s"]
        return True


def autocast(bf16: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()


def read_counters(path: Path) -> dict[str, Any]:
    """Step and seconds of a save."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["counters"])


def module_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The weights under `prefix` of a save."""
    start = f"module.{prefix}"
    return {k[len(start) :]: v for k, v in load_file(path).items() if k.startswith(start)}


def owners(state: dict[str, Tensor]) -> dict[str, str]:
    """Each name → the first name of the same tensor (tied embeddings have two)."""
    first: dict[tuple[int, torch.Size], str] = {}
    return {n: first.setdefault((t.data_ptr(), t.shape), n) for n, t in state.items()}


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits that change with any name or weight."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def _one_thread() -> None:
    torch.set_num_threads(1)
