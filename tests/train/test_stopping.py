"""A run that is asked to end saves and says how to go on; no worker outlives its trainer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_audio.train.saves import read_counters, saves
from tiny_audio.train.stopping import is_asked, stoppable

FEW = ["data.sources.clips.limit=60", "data.validation.held_out.limit=4"]


def begin(python, folder, processes):
    command = [python, "-m", "tiny_audio", "train", "+experiment=quickstart", *FEW]
    command += [f"output={folder}", "stages.projector.minutes=5", f"data.micro_batches={processes}"]
    command += ["--processes", str(processes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def trains(folder):
    """A line of metrics is there, so the loop runs."""
    path = folder / "metrics.jsonl"
    return path.is_file() and '"train"' in path.read_text()


def workers(folder):
    """Processes whose command or environment names this run's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            used = os.readlink(path / "cwd"), (path / "environ").read_bytes()
            locks = any(str(folder) in os.readlink(f) for f in (path / "fd").iterdir())
        except OSError:
            continue
        if locks or str(folder).encode() in used[1]:
            found.append(int(path.name))
    return found


def test_a_signal_asks_and_a_second_one_ends():
    before = signal.getsignal(signal.SIGTERM)
    called = []
    with stoppable(lambda: called.append(1)):
        assert not is_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_asked()
        assert called == [1]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert not is_asked()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_asked_to_end_saves_and_says_how_to_go_on(tmp_path, processes):
    run = begin(sys.executable, tmp_path / "run", processes)
    wait_for(lambda: trains(tmp_path / "run") or run.poll() is not None)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2, errors
    assert "Type the same command again to go on" in errors
    assert "Traceback" not in errors
    (saved,) = saves(tmp_path / "run" / "projector")[-1:]
    assert read_counters(saved)["step"] > 0
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.slow
def test_workers_end_when_the_process_that_began_them_is_killed(tmp_path):
    run = begin(sys.executable, tmp_path / "run", 2)
    wait_for(lambda: trains(tmp_path / "run") or run.poll() is not None)
    assert len(workers(tmp_path / "run")) >= 2
    run.kill()
    wait_for(lambda: not workers(tmp_path / "run"), 30)
    run.communicate(timeout=10)
    assert saves(tmp_path / "run" / "projector")
