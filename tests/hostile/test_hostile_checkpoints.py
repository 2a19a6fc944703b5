"""Hostile checkpoints are refused with a sentence, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile.hostile_checkpoints import cases, copied, good_checkpoint

HERE = Path(__file__).parent
SECONDS, GROWTH_MB = 10, 300  # of processor time and of memory, for one checkpoint


def outcomes(folder: Path, size: str) -> list[dict[str, Any]]:
    """What became of every case, in one other process."""
    due = [case.name for case in cases(size == "full") if size != "small" or case.small]
    done = subprocess.run(
        [sys.executable, str(HERE / "checkpoint_worker.py"), str(folder), size],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if len(found) < len(due):
        pytest.fail(f"exit {done.returncode} at {due[len(found)]}:\n{done.stderr[-2000:]}")
    return found


def complaint(found: dict[str, Any]) -> str:
    """What is wrong with an outcome; empty when all is well."""
    allowed = ("CheckpointError",) + ("loaded",) * found["name"].startswith("any-")
    if found["ran_code"]:
        return "its code ran"
    if found["kind"] not in allowed:
        return f"expected {' or '.join(allowed)}"
    if found["kind"] != "loaded" and len(found["message"]) < 20:
        return "says nothing"
    if found["processor_s"] > SECONDS or found["grown_mb"] > GROWTH_MB:
        return "costs too much"
    return ""


def check(results: list[dict[str, Any]]) -> None:
    wrong = [f"{complaint(one)}: {one}" for one in results if complaint(one)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_few_hostile_checkpoints_are_refused(tmp_path):
    check(outcomes(tmp_path, "small"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_hostile_checkpoints_are_refused(tmp_path):
    names = [case.name for case in cases()]
    assert len(names) == len(set(names)) >= 100
    check(outcomes(tmp_path, "all"))


@pytest.mark.long
def test_large_hostile_checkpoints_are_refused(tmp_path):
    check(outcomes(tmp_path, "full"))


def test_the_command_line_refuses_one_with_exit_code_2(tmp_path, python):
    case = next(case for case in cases() if case.name == "error-layers-1000000")
    folder = copied(good_checkpoint(tmp_path / "good"), tmp_path / "spoiled", case)
    clip = HERE.parents[1] / "samples" / "address-1961.flac"
    command = [python, "-m", "tiny_audio", "transcribe", str(clip), "--model", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "1,000,000" in done.stderr
    assert "Traceback" not in done.stderr
