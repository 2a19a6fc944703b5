"""When, where and with what something was measured: every result carries it."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("tiny-audio", "torch", "transformers", "rapidfuzz", "whisper-normalizer", "numpy")


def made(device: str) -> dict[str, Any]:
    """Return date (UTC), command line, commit, versions and hardware of what runs now."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **versions()},
        "hardware": hardware(device),
    }


def command_line() -> str:
    """Return the command line as it can be typed again: the program without its folder."""
    program = Path(sys.argv[0]).name
    program = "tiny-audio" if program in ("__main__.py", "tiny-audio") else program
    return shlex.join([program, *sys.argv[1:]])


def commit() -> str | None:
    """Return the commit of the running code, with -dirty if it was changed; None without git."""
    git, code = shutil.which("git"), Path(__file__).resolve().parents[1]
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run([git, "-C", str(code), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    # A package that is installed below somebody else's repository is not of that repository.
    if ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    changed = ask("status", "--porcelain", "--untracked-files=no", "--", str(code))
    return f"{ask('rev-parse', 'HEAD')}{'-dirty' if changed else ''}"


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that figures depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """Return the processor, its cores that this process may use, threads of torch, and the GPU."""
    here = torch.device(device)
    return {
        "cpu": cpu_name(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(here) if here.type == "cuda" else None,
    }


def num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux; elsewhere a process may use them all
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's model name where the system tells it, else its architecture."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
