"""Seconds and bytes of work on a device."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WARM_UP = 3  # repetitions that are not counted
Row = dict[str, Any]


@dataclass(frozen=True)
class Watch:
    device: str

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """How long a call took, and what it returned."""
        self.wait()
        began_s = time.perf_counter()
        result = call()
        self.wait()
        return time.perf_counter() - began_s, result

    def repeated(self, call: Callable[[], Any], repetitions: int) -> list[float]:
        """Seconds of every call after the warm-up."""
        return [self.seconds(call)[0] for _ in range(WARM_UP + repetitions)][WARM_UP:]

    def forget(self) -> int:
        """Forget the peak so far; returns the bytes that are held now."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that no reuse goes unseen
        Path("/proc/self/clear_refs").write_text("5")
        return resident("VmRSS")

    def peak(self) -> int:
        """Most bytes held since `forget`."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else resident("VmHWM")


def resident(field: str) -> int:
    """Bytes, by a name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def spread(seconds: Sequence[float]) -> Row:
    """Milliseconds: the median of all repetitions, the fastest and the slowest."""
    in_ms = [round(1000 * s, 3) for s in seconds]
    middle = statistics.median(in_ms)
    return {"median": middle, "min": min(in_ms), "max": max(in_ms), "repetitions": len(in_ms)}
