"""Optimisers: AdamW, or Muon for a transformer's matrices with AdamW for all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tiny_audio.train.distributed import rank, share, world_size


def adamw(module: nn.Module, weight_decay: float) -> list[Optimizer]:
    """Matrices decay, norms and biases do not."""
    return [_adamw([p for p in module.parameters() if p.requires_grad], weight_decay)]


def muon(module: nn.Module, weight_decay: float) -> list[Optimizer]:
    """Muon on `layers.*` matrices, its step scaled to AdamW's size so that one rate fits both."""
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    inner = [p for n, p in named if ".layers." in n and p.ndim == 2]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    if not inner:
        return [_adamw(rest, weight_decay)]
    matrices = SharedMuon(inner, lr=1e-3, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return [matrices, _adamw(rest, weight_decay)]


class SharedMuon(torch.optim.Muon):
    """Each process orthogonalises every n-th matrix (all: 0.2 s of a 1 s step); then they share."""

    def __init__(self, matrices: list[nn.Parameter], **settings: Any):
        self.matrices = matrices
        super().__init__(matrices[rank() :: world_size()], **settings)

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for owner in range(world_size() if world_size() > 1 else 0):
            share(self.matrices[owner :: world_size()], owner)
        return loss


def _adamw(parameters: Sequence[nn.Parameter], decay: float) -> Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3, betas=(0.9, 0.98))


def state_tensors(optimizers: Iterable[Optimizer]) -> dict[str, Tensor]:
    """All states under `optimizer.{number}.{parameter}.{name}`."""
    return {
        f"optimizer.{number}.{index}.{name}": value.contiguous()
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_state_tensors(optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    """The inverse of `state_tensors`; other keys are left alone."""
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, index, name = key.split(".")
            states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
