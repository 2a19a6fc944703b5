"""Seconds read and seconds noted as missing are those in the file, whatever was done to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("av")
import toys
from model.splices import CONTAINERS, Case, spliced
from typed import typed

from tiny_audio.model import saving
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import AudioError
from tiny_audio.model.source import Note

NEAR_S = 0.1


def complaint(case: Case) -> str:
    """What is wrong with the account of one case; empty when it is right."""
    try:
        audio = load_audio(case.data, allow_truncated=True)
    except AudioError as error:
        return refused(case, str(error))
    missing_s = sum(note.missing_s for note in audio.notes if isinstance(note, Note))
    return compared(case, audio.duration_s, missing_s)


def refused(case: Case, error: str) -> str:
    """A file may be refused where its end was cut away and its container does not tell."""
    return "" if "kept" in case.deeds and not case.exact else error


def compared(case: Case, read_s: float, missing_s: float) -> str:
    """What is wrong with the seconds of one case."""
    found_s = read_s + missing_s
    if case.exact and abs(found_s - case.seconds) > NEAR_S:
        return f"{read_s:.2f} s read and {missing_s:.2f} s noted of {case.seconds:.2f} s"
    if found_s > case.seconds + NEAR_S:
        return f"{found_s:.2f} s, but the file never had more than {case.seconds:.2f} s"
    return ""


def check(container: str, seeds: range) -> None:
    cases = [(seed, spliced(container, seed)) for seed in seeds]
    wrong = [f"{seed}: {case.deeds}: {why}" for seed, case in cases if (why := complaint(case))]
    assert not wrong, f"{len(wrong)} of {len(cases)}\n" + "\n".join(wrong)


@pytest.mark.parametrize("container", CONTAINERS)
def test_read_and_missing_seconds_are_the_file(container: str) -> None:
    check(container, range(7))


@pytest.mark.long
@pytest.mark.parametrize("container", CONTAINERS)
def test_read_and_missing_seconds_are_the_file_500_times(container: str) -> None:
    check(container, range(7, 72))


def check_command(folder: Path, seeds: range) -> None:
    """Transcribe cases of all containers by one command, and compare what its JSON says."""
    cases = {f"{c}-{seed}": spliced(c, seed) for c in CONTAINERS for seed in seeds}
    for name, case in cases.items():
        (folder / name).write_bytes(case.data)
    model = saving.save(toys.toy_preset("nano").build(), folder / "toy", whole=True)
    options = ["--model", str(model), "--format", "json", "--allow-truncated"]
    paths = [str(folder / name) for name in cases]
    done = typed("transcribe", *paths, *options)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == paths
    wrong = []
    for row, (name, case) in zip(rows, cases.items(), strict=True):
        if "error" in row:
            why = refused(case, row["error"])
        else:
            why = compared(case, row["covered_s"], row["missing_s"])
        wrong += [f"{name}: {case.deeds}: {why}"] if why else []
    assert not wrong, f"{len(wrong)} of {len(cases)}\n" + "\n".join(wrong)


@pytest.mark.slow
def test_one_command_accounts_for_every_second(tmp_path: Path) -> None:
    check_command(tmp_path, range(25, 32))  # three end early, and their headers tell


@pytest.mark.long
def test_one_command_accounts_for_every_second_520_times(tmp_path: Path) -> None:
    check_command(tmp_path, range(7, 72))
