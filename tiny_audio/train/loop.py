"""The training loop: seeded, resumable, by steps or by the clock, on one process or many.

A step takes micro-batches and the state of the data after them, so a run that is stopped, however
rudely, and taken up again computes the same numbers as one that was not. A budget in seconds
schedules on the elapsed share instead.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tiny_audio.data.mixture import State
from tiny_audio.files import append_json
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.progress import progress
from tiny_audio.train.distributed import all_sum, rank, spread, wait_for_all, whole, world_size
from tiny_audio.train.hardware import autocast, peak_memory
from tiny_audio.train.optim import adamw, load_state_tensors, muon, state_tensors
from tiny_audio.train.recipe import LoopConfig
from tiny_audio.train.saves import (
    fingerprint,
    load_weights,
    part_of,
    read_counters,
    read_save,
    saves,
    write_save,
)
from tiny_audio.train.stopping import Stopped, is_asked


class Losses(NamedTuple):
    """Sums over a micro-batch: of the loss, of supervised tokens, and of those that were right."""

    total: Tensor
    tokens: int
    correct: int = 0


Batch = Any
Loss = Callable[[Batch], Losses | tuple[Tensor, int]]
Batches = Callable[[State], Iterator[tuple[Sequence[Batch], State]]]
Evaluate = Callable[[], dict[str, Any]]

MOST_SKIPPED = 20
# There is an evaluation before the first step, and one after this share of `evaluate_every_s`: they
# show the plateau, on which the clip itself does not help yet.
EARLY = 0.2


class Loop:
    """Trains the parameters of `module` that require gradients.

    `loss` is the module's own call unless given; it returns `Losses`, sums over a micro-batch.
    """

    def __init__(
        self,
        module: nn.Module,
        config: LoopConfig,
        folder: Path,
        loss: Loss | None = None,
        write: Callable[[dict[str, Any]], None] | None = None,
    ):
        if (config.steps > 0) == (config.budget_s > 0):
            raise ValueError("Give exactly one of steps and budget_s.")
        self.module, self.config, self.folder = module, config, folder
        self.origin = fingerprint(module)  # what this run began from; a save says it
        self.spread = spread(module, config.strategy, loss)
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        make = muon if config.optimizer == "muon" else adamw
        self.optimizers = make(module, config.rates, config.weight_decay)
        self.step, self.elapsed_s, self.skipped_in_a_row = 0, 0.0, 0
        self.stopping = False  # a signal asked some process to end
        self.state: State = {}
        self.write = write or self._append
        self._start_clock()
        folder.mkdir(parents=True, exist_ok=True)

    def progress(self) -> float:
        """Return the share of the run that is done, 0 to 1."""
        config = self.config
        return self.step / config.steps if config.steps else self.elapsed_s / config.budget_s

    def schedule(self) -> float:
        """Return the share of the rates: linear warm-up, then a cosine down to `final_rate`."""
        config = self.config
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.progress(), 1.0)))
        warm = min(1.0, (self.step + 1) / max(config.warmup_steps, 1))
        return (config.final_rate + (1 - config.final_rate) * cosine) * warm

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Take one optimiser step over this process's micro-batches; `None` is an empty one.

        The gradient is that of the summed loss over the number of supervised tokens of all
        micro-batches of all processes. A step whose gradient is not finite changes nothing; after
        `MOST_SKIPPED` of those in a row training stops: its weights are beyond repair.
        """
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = group["rate"] * self.schedule()
        own = torch.zeros(5, dtype=torch.float64)  # loss, tokens, right ones, the clock, a signal
        for number, batch in enumerate(batches, start=1):
            with self.spread.syncing(number == len(batches)), self._autocast():
                losses = Losses(*self.spread.loss(batch))
                losses.total.backward()
            own[:3] += torch.tensor([float(losses.total.detach()), losses.tokens, losses.correct])
        own[3] = self._clock() if rank() == 0 else 0.0
        own[4] = float(is_asked())
        loss, count, correct, self.elapsed_s, asked = all_sum(own).tolist()
        self.stopping = asked > 0
        norm = self._scale_and_clip(world_size() / max(count, 1))
        finite = math.isfinite(norm) and math.isfinite(loss)
        for optimizer in self.optimizers if finite else ():
            optimizer.step()
        for parameter in self.parameters.values():  # also those that another's optimiser moves
            parameter.grad = None
        self.step += 1
        self._count_skipped(finite)
        values = {"loss": loss / max(count, 1), "token_accuracy": correct / max(count, 1)}
        return {**values, "norm": norm, "skipped": float(not finite), "tokens": count}

    def _scale_and_clip(self, factor: float) -> float:
        """Scale gradients to those of the mean, at most `clip_norm` long; return their norm."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(factor)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        return float(whole(norm))

    def _count_skipped(self, finite: bool) -> None:
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row == MOST_SKIPPED:
            raise FloatingPointError(
                f"The gradients of {MOST_SKIPPED} steps in a row were not finite, up to step "
                f"{self.step}. Go on from the last save in {self.folder} with a lower rate."
            )

    def run(
        self, batches: Batches, evaluate: Evaluate | None = None, stop_after: int | None = None
    ) -> None:
        """Train to the end of the budget (or `stop_after` more steps), then save and evaluate.

        Evaluations before the first step and soon after it take no time off the budget.
        """
        every_s, begins = self.config.evaluate_every_s, self.step == 0
        if evaluate and begins:
            self.log(self._evaluate(evaluate))
        self.module.train()
        last = self.step + stop_after if stop_after is not None else None
        saved_s, due_s = self.elapsed_s, self.elapsed_s + (EARLY if begins else 1) * every_s
        self._start_clock()
        window: list[dict[str, float]] = []
        steps = batches(self.state)
        with ThreadPoolExecutor(1, initializer=_one_thread) as ahead, self._bar() as bar:
            shown = bar.add_task(self.folder.name, total=1.0)
            job = ahead.submit(next, steps)
            while self.progress() < 1 and self.step != last and not self.stopping:
                asked_s = time.monotonic()
                batch, state = job.result()
                waited_s = time.monotonic() - asked_s
                job = ahead.submit(next, steps)
                window.append({**self.update(batch), "waited_s": waited_s, **measured(batch)})
                self.state = state
                bar.update(
                    shown, completed=self.progress(), description=self._description(window[-1])
                )
                if self.step % self.config.log_every == 0:
                    self.log(self._summary(window))
                    window = []
                if self.elapsed_s - saved_s > self.config.save_every_s:
                    self.save()
                    saved_s = self.elapsed_s
                if evaluate and self.elapsed_s > due_s:
                    wait([job])  # a tokenizer cannot be used by two threads at once
                    self.log(self._evaluate(evaluate))
                    if begins and due_s < every_s:
                        self._start_clock()
                    due_s = max(every_s, self.elapsed_s + every_s * (due_s >= every_s))
            if window:
                self.log(self._summary(window))
        self.save()
        if self.stopping:
            raise Stopped(
                f"Stopped at step {self.step}, and saved in {self.folder}. Type the same command "
                f"again to go on."
            )
        if evaluate:
            self.log(self._evaluate(evaluate))

    def _bar(self) -> Any:
        return progress(counts=False, disable=rank() > 0)

    def _description(self, last: dict[str, float]) -> str:
        return f"{self.folder.name}: step {self.step}, loss {last['loss']:.2f}"

    def _autocast(self) -> Any:
        return autocast(self.config.bf16, self.config.device)

    def _start_clock(self) -> None:
        self._origin = time.monotonic() - self.elapsed_s
        self._logged_s = self.elapsed_s

    def _clock(self) -> float:
        return time.monotonic() - self._origin

    def rehearse(self, batch: Batch) -> int:
        """Compute forward and backward without a step; return the peak memory in bytes.

        A parameter that trains but gets no gradient is a `ConfigError`.
        """
        self.module.train()
        with self._autocast():
            losses = Losses(*self.spread.loss(batch))
            losses.total.backward()
        if deaf := [name for name, p in self.parameters.items() if p.grad is None]:
            raise ConfigError(
                f"{len(deaf)} of {len(self.parameters)} parameters that train get no gradient, "
                f"for example {deaf[0]}: the model does not use them. Name other LoRA targets, "
                f"or leave that part frozen."
            )
        for parameter in self.parameters.values():
            parameter.grad = None
        return peak_memory(self.config.device)

    def _evaluate(self, evaluate: Evaluate) -> dict[str, Any]:
        with self.spread.gathered():
            self.module.eval()
            with torch.no_grad(), self._autocast():
                result = evaluate()
            self.module.train()
        return result

    def _summary(self, window: list[dict[str, float]]) -> dict[str, Any]:
        """Return means over a window of steps, and sums of what is counted."""
        added = {k: sum(w.get(k, 0.0) for w in window) for k in window[-1]}
        mean = {k: added[k] / len(window) for k in ("loss", "token_accuracy", "norm", "padding")}
        seconds = max(self.elapsed_s - self._logged_s, 1e-9)
        self._logged_s = self.elapsed_s
        return {
            "kind": "train",
            **mean,
            "learning_rate": max(g["lr"] for o in self.optimizers for g in o.param_groups),
            **{k: added[k] for k in ("skipped", "tokens", "audio_s")},
            "waiting": min(added["waited_s"] / seconds, 1.0),
        }

    def log(self, values: dict[str, Any]) -> None:
        """Write one JSON line, from the first process."""
        if rank() == 0:
            row = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1)}
            self.write({**row, **rounded(values)})

    def _append(self, row: dict[str, Any]) -> None:
        append_json(self.folder / "log.jsonl", row)
        print(json.dumps(row), flush=True)

    # Saves ----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save what trains, the optimisers' states, counters, the data's state and the random
        state, as safetensors with JSON in the header, and without pickle.

        Muon's other processes (each holds the state of other matrices) write first; the save
        counts when the first process's file is there.
        """
        tensors = {k: whole(v) for k, v in state_tensors(self.optimizers).items()}
        weights = {f"module.{name}": whole(p.detach()) for name, p in self.parameters.items()}
        if rank() and self._in_parts():
            self._write(part_of(self._path(), rank()), tensors)
        wait_for_all()
        if rank() == 0:
            randomness = {"random.torch": torch.get_rng_state()}
            self._write(self._path(), tensors | weights | randomness)
            for old in saves(self.folder)[: -self.config.keep]:
                for path in [*self.folder.glob(f"{old.stem}-*.safetensors"), old]:
                    path.unlink()
        wait_for_all()  # no process says "saved" before there is a save

    def _path(self) -> Path:
        return self.folder / f"step-{self.step:08d}.safetensors"

    def _in_parts(self) -> bool:
        return self.config.optimizer == "muon" and world_size() > 1

    def _write(self, target: Path, tensors: dict[str, Tensor]) -> None:
        about = {"step": self.step, "elapsed_s": self.elapsed_s, "state": self.state}
        write_save(target, tensors, {**about, **self._belongs_to()})

    def _belongs_to(self) -> dict[str, Any]:
        """Return what a save must agree on: where the run began, and the processes of Muon."""
        return {"origin": self.origin, "processes": world_size() if self._in_parts() else 1}

    def resume(self) -> bool:
        """Continue from the last save of this folder; return False when there is none.

        Raises `CheckpointError` for the save of another run, or (with Muon) of another number of
        processes.
        """
        found = saves(self.folder)
        if not found:
            return False
        path = found[-1]
        counters = read_counters(path)
        for key, value in self._belongs_to().items():
            if counters.get(key) != value:
                raise CheckpointError(
                    f"{path} was saved by another run: {key} {counters.get(key)}, now {value}. "
                    f"Continue with its settings, or delete {self.folder} to begin again."
                )
        parts = [part_of(path, n) for n in range(1, counters["processes"])]
        if lost := [p.name for p in parts if not p.exists()]:
            raise CheckpointError(f"{self.folder} has lost {', '.join(lost)} of its save.")
        tensors = read_save(path)
        load_weights(self.parameters, tensors, path)
        own = read_save(part_of(path, rank())) if rank() and self._in_parts() else tensors
        load_state_tensors(self.optimizers, own)
        torch.set_rng_state(tensors["random.torch"])
        self.step, self.elapsed_s = counters["step"], counters["elapsed_s"]
        self.state = counters["state"]
        return True


def each_step(batch: Callable[[int], Batch]) -> Batches:
    """Make batches that are a function of their number: one a step for every process."""

    def steps(state: State) -> Iterator[tuple[Sequence[Batch], State]]:
        step = state.get("step", 0)
        while True:
            yield [batch(step * world_size() + rank())], {"step": step + 1}
            step += 1

    return steps


def measured(batches: Sequence[Batch]) -> dict[str, float]:
    """Return what a log says about the clips of a step: seconds of sound, share of padding."""
    timed = [b for b in batches if hasattr(b, "audio_s")]
    waste = sum(b.padding for b in timed) / len(timed) if timed else 0.0
    return {"audio_s": sum(b.audio_s for b in timed), "padding": waste}


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def _one_thread() -> None:
    torch.set_num_threads(1)
