"""The loss over a large vocabulary: in chunks, and from all logits at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.train.hardware import autocast
from tiny_audio.train.task import chunked_loss
from training_parts.watch import Row, Watch, spread

EVERY = 37  # one of so many rows and columns of the gradient is compared


def vocabulary(
    variant: str, dtype: str, rows: int, width: int, words: int, repetitions: int, device: str
) -> Row:
    """Forward and backward of "full" or "chunked", to the gradient of the hidden states."""
    torch.manual_seed(0)
    watch = Watch(device)
    head = nn.Linear(width, words, bias=False, device=device, dtype=getattr(torch, dtype))
    head.requires_grad_(False)
    hidden_SD = torch.randn(rows, width, device=device, requires_grad=True)
    targets_S = torch.randint(words, (rows,), device=device)

    def once() -> float:
        hidden_SD.grad = None
        with autocast(True, device):
            loss = LOSSES[variant](head, hidden_SD, targets_S)
        loss.backward()
        return loss.item()

    held = watch.forget()
    taken_s = watch.repeated(once, repetitions)
    peak, loss = watch.peak() - held, once()
    assert hidden_SD.grad is not None
    return {
        "time_ms": spread(taken_s),
        "peak_bytes": peak,
        "loss": loss / rows,
        "gradient": hidden_SD.grad[::EVERY, ::EVERY].flatten().tolist(),
    }


def full(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden_SD).float(), targets_S, reduction="sum")


def chunked(head: nn.Module, hidden_SD: Tensor, targets_S: Tensor) -> Tensor:
    return chunked_loss(head, hidden_SD, targets_S)[0]


LOSSES = {"full": full, "chunked": chunked}
