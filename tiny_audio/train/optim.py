"""The optimisers: AdamW, or Muon for a transformer's matrices with AdamW for all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tiny_audio.model.errors import ConfigError
from tiny_audio.train.distributed import place, rank, share, world_size
from tiny_audio.train.hardware import multiplies_bf16

Rates = dict[str, float]  # learning rates by prefix of a parameter's name


def adamw(module: nn.Module, rates: Rates, weight_decay: float) -> list[Optimizer]:
    """Make AdamW, under which matrices decay, and norms and biases do not."""
    return [_adamw(_trainable(module), rates, weight_decay)]


def muon(module: nn.Module, rates: Rates, weight_decay: float) -> list[Optimizer]:
    """Make Muon for `layers.*` matrices, its step scaled so that AdamW's rate fits."""
    named = _trainable(module)
    inner = {n: p for n, p in named.items() if ".layers." in n and p.ndim == 2}
    rest = {n: p for n, p in named.items() if n not in inner}
    if not inner:
        return [_adamw(rest, rates, weight_decay)]
    matrices = SharedMuon(inner, rates, weight_decay)
    return [matrices, *([_adamw(rest, rates, weight_decay)] if rest else [])]


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in module.named_parameters() if p.requires_grad}


def rate_of(name: str, rates: Rates) -> float:
    """Return the rate of the longest prefix; a parameter without one is an error, not a default."""
    prefixes = [prefix for prefix in rates if name.startswith(prefix)]
    if not prefixes:
        raise ConfigError(
            f"{name} trains, but no learning rate is given for it. Add one to learning_rate."
        )
    return rates[max(prefixes, key=len)]


class SharedMuon(Optimizer):
    """Muon in which each process orthogonalises every n-th matrix; then all share them.

    A matrix moves along its orthogonalised Nesterov momentum, by 0.2 √(longer side) times the rate,
    so that AdamW's rate fits ("Muon is Scalable for LLM Training", arXiv 2502.16982).
    `torch.optim.Muon` does the same, but only in bfloat16: 12 s a step of nano on an AVX2 CPU.
    """

    def __init__(self, matrices: dict[str, nn.Parameter], rates: Rates, weight_decay: float):
        self.matrices = list(matrices.values())
        own = list(matrices.items())[rank() :: world_size()]
        groups = _groups(dict(own), rates, {"weight_decay": weight_decay})
        super().__init__(groups, {"momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure and closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)
        for owner in range(world_size() if world_size() > 1 else 0):
            share(self.matrices[owner :: world_size()], owner)
        return loss

    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move one matrix by its rate, and let it decay."""
        momentum, state = group["momentum"], self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonal(gradient.lerp(mean, momentum))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix_MN: Tensor) -> Tensor:
    """Bring all singular values of a matrix near 1, by five steps of Newton and Schulz.

    The coefficients are those of torch.optim.Muon. It computes in bfloat16 where that is faster.
    """
    fast = multiplies_bf16(str(matrix_MN.device))
    x = matrix_MN.to(torch.bfloat16 if fast else torch.float32)
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        change = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, change, x, beta=3.4445)
    return (x.T if is_tall else x).to(matrix_MN.dtype)


def _adamw(named: dict[str, nn.Parameter], rates: Rates, decay: float) -> Optimizer:
    matrices = {n: p for n, p in named.items() if p.ndim >= 2}
    vectors = {n: p for n, p in named.items() if p.ndim < 2}
    groups = _groups(matrices, rates, {"weight_decay": decay})
    groups += _groups(vectors, rates, {"weight_decay": 0.0})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _groups(
    named: dict[str, nn.Parameter], rates: Rates, options: dict[str, float]
) -> list[dict[str, Any]]:
    """Return one group for each rate; `rate` is what the schedule scales into `lr`."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(rate_of(name, rates), []).append(parameter)
    return [{"params": p, "lr": r, "rate": r, **options} for r, p in groups.items()]


def state_tensors(optimizers: Iterable[Optimizer]) -> dict[str, Tensor]:
    """Return all states under `optimizer.{number}.{parameter}.{name}`."""
    return {
        f"optimizer.{number}.{index}.{name}": value
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_state_tensors(optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    """Undo `state_tensors`; other keys are left alone."""
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, index, name = key.split(".")
            states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for at, held in state.items():
            like = parameters[at]  # AdamW's count of steps has no shape, the rest has the weight's
            held |= {k: place(v, like) for k, v in held.items() if v.shape == like.shape}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
