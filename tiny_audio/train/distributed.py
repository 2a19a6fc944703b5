"""Data parallelism over processes of one machine (gloo).

On 2 cores two processes of one thread are worth it: with OpenMP's two threads every operation waits
for the slower core, and a third busy process made a step of 1.2 s take 4 to 13 s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()


def sum_gradients(parameters: Sequence[nn.Parameter], *numbers: float) -> list[float]:
    """Add up all processes' gradients in place, and the numbers, which are returned."""
    if world_size() == 1:
        return list(numbers)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.flatten() for g in grads), torch.tensor(numbers)])
    dist.all_reduce(flat)
    for grad, part in zip(
        grads, flat.split([g.numel() for g in grads] + [len(numbers)])[:-1], strict=True
    ):
        grad.copy_(part.view_as(grad))
    return flat[-len(numbers) :].tolist()


@torch.no_grad()
def share(parameters: Sequence[nn.Parameter], owner: int) -> None:
    """Give all processes the owner's values."""
    flat = torch.cat([p.flatten() for p in parameters])
    dist.broadcast(flat, owner)
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.copy_(part.view_as(parameter))


def launch(work: Callable[[Any], None], arguments: Any, processes: int) -> None:
    """Run `work(arguments)` in this process, or in several that know each other."""
    if processes == 1:
        work(arguments)
        return
    with tempfile.NamedTemporaryFile() as file:
        start = (work, arguments, processes, f"file://{file.name}.store")
        mp.spawn(_process, start, nprocs=processes)


def _process(
    number: int, work: Callable[[Any], None], arguments: Any, size: int, store: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=store, rank=number, world_size=size, timeout=timedelta(minutes=15)
    )
    try:
        work(arguments)
    finally:
        dist.destroy_process_group()
