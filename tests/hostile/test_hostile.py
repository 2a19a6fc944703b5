"""Hostile files end in an error that names a cure or in sound audio; never in a crash or a bomb."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

import pytest

pytest.importorskip("av")
import av
from hostile.hostile_files import NUM_FILES, hostile_files

from tiny_audio.model.audio import load_audio

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILE_SECONDS = 5  # of processor time; the slowest takes about half a second
PEAK_MB, GROWTH_MB = 1000, 300  # of the process, and of it what decoding adds to the imports
CURES = (
    "Build Check Convert Divide Download Expected Export Fetch Give Leave Mix Open Pass Record "
    "Type Use".split()
)


def run_worker(folder: Path, seed: int, num_files: int) -> list[dict[str, Any]]:
    """Write the files, load them all in one other process, return what it said about each."""
    folder.mkdir()
    names = []
    for name, data in hostile_files(num_files, seed):
        (folder / name).write_bytes(data)
        names.append(name)
    assert len(set(names)) == len(names) == num_files
    done = subprocess.run(
        [sys.executable, str(HERE / "file_worker.py"), str(folder), str(FILE_SECONDS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if len(results) < num_files:
        culprit = sorted(names)[len(results)]
        pytest.fail(f"exit {done.returncode} (crash or hang) at {culprit}:\n{done.stderr[-2000:]}")
    return results


def complaint(result: dict[str, Any]) -> str:
    """What is wrong with the outcome of one file; empty when all is well."""
    expected = result["name"].split("-")[0]
    if result["kind"] not in ("error", "decode") or expected not in (result["kind"], "any"):
        return f"expected {expected}"
    if result["kind"] == "decode":
        return "" if result["num_samples"] else "decoded to nothing"
    cure = result["message"].rsplit(". ", 1)[-1]
    return "" if cure.startswith(tuple(CURES)) else "names no cure"


def check(results: list[dict[str, Any]]) -> None:
    wrong = [f"{complaint(result)}: {result}" for result in results if complaint(result)]
    assert not wrong, "\n".join(wrong)
    peak_mb, growth_mb = (results[-1]["peak_mb"] - at for at in (0, results[0]["peak_mb"]))
    assert growth_mb < GROWTH_MB, f"decoding took {growth_mb} MB"
    assert peak_mb < PEAK_MB, f"peak {peak_mb} MB, of which decoding {growth_mb} MB"


@pytest.mark.slow
def test_hostile_files(tmp_path: Path) -> None:
    results = run_worker(tmp_path / "files", seed=0, num_files=NUM_FILES)
    check(results)
    kinds = [result["kind"] for result in results]
    assert min(kinds.count("error"), kinds.count("decode")) > 100  # neither refuses nor takes all
    decoded = {result["name"]: result for result in results if result["kind"] == "decode"}
    good = [result for name, result in decoded.items() if name.startswith("decode-good")]
    assert len(good) > 20
    for result in good:  # the 0.25 s tone of amplitude 0.4, from every format
        assert 3900 <= result["num_samples"] <= 6200, result
        assert 0.2 < result["rms"] < 0.3, result


@pytest.mark.long
def test_more_hostile_files(tmp_path: Path) -> None:
    check(run_worker(tmp_path / "files", seed=1, num_files=5000))


def packets_of_one_sample(number: int) -> bytes:
    """A Matroska file in which every packet holds one sample."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as sink:
        track = sink.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for at in range(number):
            packet = av.Packet(b"\1\1")
            packet.stream, packet.pts, packet.dts = track, at, at
            packet.time_base, packet.duration = Fraction(1, 16_000), 1
            sink.mux(packet)
    return out.getvalue()


def least_s(work: Callable[[], None]) -> float:
    """The least processor time of five runs."""
    times = []
    for _ in range(5):
        started = process_time()
        work()
        times.append(process_time() - started)
    return min(times)


@pytest.mark.slow
def test_packets_of_one_sample_cost_at_most_twice_what_decoding_them_costs() -> None:
    data = packets_of_one_sample(20_000)

    def plain() -> None:
        with av.open(io.BytesIO(data)) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) == 20_000

    def ours() -> None:
        assert len(load_audio(data).samples) == 20_000

    assert least_s(ours) <= 2 * least_s(plain)
