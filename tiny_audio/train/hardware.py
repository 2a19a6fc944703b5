"""Measuring a machine: whether bfloat16 is fast on it, and how much memory a run has held."""

from __future__ import annotations

import math
import resource
import sys
import time
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn


def autocast(bf16: bool, device: str = "cpu") -> Any:
    """Compute in bfloat16 over float32 weights, or change nothing."""
    return torch.autocast(device.split(":")[0], torch.bfloat16) if bf16 else nullcontext()


def multiplies_bf16(device: str = "") -> bool:
    """Tell whether bfloat16 is faster than float32: on GPUs, on CPUs with AMX, and on those with
    AVX-512 where a product of matrices says so.

    With AVX2 alone such a product takes 40 times as long (1.2 for 48 GFLOP/s); with AVX-512 it is
    faster on some processors and half as fast on others (95 for 175 GFLOP/s).
    """
    if not device.startswith("cpu") and torch.cuda.is_available():
        return True
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and (
        _product_s(torch.bfloat16) < _product_s(torch.float32)
    )


@cache
def _product_s(dtype: torch.dtype) -> float:
    """Return the seconds that a product of two matrices takes: the best of five, on one core."""
    x, weight = torch.ones(1024, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
    best = math.inf
    for _ in range(6):  # the first one compiles
        start = time.perf_counter()
        nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - start)
    return best


def peak_memory(device: str) -> int:
    """Return the most bytes ever held: by the GPU, or by this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
