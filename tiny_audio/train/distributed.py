"""Running in many processes: their numbers, and three ways to share a module (alone, DDP, FSDP2).

On 2 cores two processes of one thread are worth it: with OpenMP's two threads every operation waits
for the slower core, and a third busy process made a step of 1.2 s take 4 to 13 s.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tiny_audio.ahead import import_ahead
from tiny_audio.files import write_text
from tiny_audio.model.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    EncoderError,
    PromptError,
)
from tiny_audio.train.recipe import Strategy
from tiny_audio.train.stopping import Stopped, end_with, stoppable

PATIENCE = timedelta(minutes=60)  # the others wait while the first process saves


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()


def all_sum(numbers: Tensor) -> Tensor:
    """Return the sum of all processes' numbers."""
    if world_size() == 1:
        return numbers
    on_device = numbers.cuda() if dist.get_backend() == "nccl" else numbers
    dist.all_reduce(on_device)
    return on_device.cpu()


def gather_dealt(own: list[Any]) -> list[Any]:
    """Return the items of all processes, of which each has every n-th, in their order."""
    if world_size() == 1:
        return own
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, own)
    return [part[n] for n in range(len(parts[0])) for part in parts if n < len(part)]


class Spread:
    """A module as the processes share it; `loss` is called in place of the module."""

    def __init__(self, module: nn.Module, strategy: Strategy, loss: Callable[..., Any] | None):
        called = module if loss is None else Called(module, loss)
        self.sharded = world_size() > 1 and strategy == "fsdp"
        self.module = called
        if self.sharded:
            shard(module, called)
        elif world_size() > 1:
            self.module = DistributedDataParallel(called)
        self.loss: Callable[..., Any] = self.module

    def syncing(self, last: bool) -> AbstractContextManager[Any]:
        """Let gradients meet in the last micro-batch of a step."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()
        if self.sharded:
            for part in self.module.modules():
                if isinstance(part, FSDPModule):
                    part.set_requires_gradient_sync(last, recurse=False)
        return nullcontext()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold whole weights in every process, for calls that do not go through `loss`; within, one
        process may compute while the others wait.
        """
        parts = [m for m in self.module.modules() if isinstance(m, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


class Called(nn.Module):
    """A module whose call is a given function."""

    def __init__(self, module: nn.Module, loss: Callable[..., Any]):
        super().__init__()
        self.module, self._function = module, loss

    def forward(self, batch: Any) -> Any:
        return self._function(batch)


def spread(module: nn.Module, strategy: Strategy, loss: Callable[..., Any] | None) -> Spread:
    return Spread(module, strategy, loss)


def shard(module: nn.Module, called: nn.Module) -> None:
    """Shard a module: every transformer layer is a unit of its own, and the rest is one. A layer's
    frozen and trainable weights are sharded alike.
    """
    for layers in [m for m in module.modules() if isinstance(m, nn.ModuleList)]:
        for layer in layers:
            fully_shard(layer)
    fully_shard(called)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor of which this process may hold a part; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place(tensor: Tensor, like: Tensor) -> Tensor:
    """Lay out a whole tensor like `like`."""
    tensor = tensor.to(like.device)
    if isinstance(like, DTensor):
        return distribute_tensor(tensor, like.device_mesh, like.placements)
    return tensor


@torch.no_grad()
def share(parameters: Sequence[nn.Parameter], owner: int) -> None:
    """Give all processes the owner's values."""
    flat = torch.cat([p.flatten() for p in parameters])
    dist.broadcast(flat, owner)
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.copy_(part.view_as(parameter))


Refusal = type[Exception]
REFUSALS: dict[str, Refusal] = {
    kind.__name__: kind
    for kind in (
        AudioError,
        CheckpointError,
        ConfigError,
        EncoderError,
        FloatingPointError,
        PromptError,
        Stopped,
    )
}


def launch(work: Callable[[Any], None], arguments: Any, processes: int, device: str = "") -> None:
    """Run `work(arguments)` in this process, or in several that know each other; `device` is where
    they compute (empty: on GPUs if there are any). What one of them refuses is raised here.

    Under `torchrun` this process is one of those that it started.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        backend = backend_of(device, int(os.environ["LOCAL_WORLD_SIZE"]))
        _join(None, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), backend)
        _work(work, arguments)
    elif processes == 1:
        with stoppable():
            work(arguments)
    else:
        backend = backend_of(device, processes)
        import_ahead()
        with tempfile.TemporaryDirectory() as folder:
            start = (work, arguments, processes, backend, Path(folder), os.getpid())
            try:
                _run_all(
                    mp.start_processes(
                        _process, start, processes, join=False, start_method="forkserver"
                    )
                )
            except (mp.ProcessRaisedException, mp.ProcessExitedException):
                raise_refusal(Path(folder))
                raise


def _run_all(context: Any) -> None:
    """Wait for all processes; a signal is passed on to them, and whatever ends this ends them."""
    try:
        with stoppable(lambda: _terminate(context.processes)):
            while not context.join():
                pass
    except BaseException:
        _terminate(context.processes)
        raise


def _terminate(processes: Sequence[Any]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()


def backend_of(device: str, processes: int) -> str:
    """Return what the processes of one machine talk through; a GPU serves one of them."""
    if device.startswith("cpu") or not torch.cuda.is_available():
        return "gloo"
    if processes > (gpus := torch.cuda.device_count()):
        raise ConfigError(
            f"{processes} processes, but {gpus} GPU(s): each process needs one of its own. Start "
            f"{gpus}, or compute with device=cpu."
        )
    return "nccl"


def raise_refusal(folder: Path) -> None:
    """Raise what a process has left there before it ended."""
    for path in sorted(folder.glob("refusal-*.json"))[:1]:
        name, message = json.loads(path.read_text())
        raise REFUSALS[name](message)


def _process(
    number: int,
    work: Callable[[Any], None],
    arguments: Any,
    size: int,
    backend: str,
    folder: Path,
    beginner: int,
) -> None:
    end_with(beginner)
    torch.set_num_threads(1)
    # gloo looks for the machine's own name, which leads nowhere when networking is off.
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    _join(f"file://{folder}/store", number, size, backend)
    try:
        with stoppable():
            work(arguments)
    except tuple(REFUSALS.values()) as error:
        refusal = json.dumps([type(error).__name__, str(error)])
        write_text(folder / f"refusal-{number}.json", refusal)
        raise
    dist.barrier()
    # Nothing is left to do, and the interpreter's end races with gloo's threads: one run in a few
    # hundred was aborted there ("terminate called without an active exception").
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _join(store: str | None, number: int, size: int, backend: str) -> None:
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", number)))
    dist.init_process_group(
        backend, init_method=store, rank=number, world_size=size, timeout=PATIENCE
    )


def _work(work: Callable[[Any], None], arguments: Any) -> None:
    try:
        work(arguments)
    finally:
        dist.destroy_process_group()
