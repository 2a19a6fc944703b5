"""Seconds read and seconds noted as missing are those in the file, whatever was done to it."""

from __future__ import annotations

import pytest

pytest.importorskip("av")
from model.splices import CONTAINERS, Case, spliced

from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import AudioError
from tiny_audio.model.source import Note

NEAR_S = 0.1


def complaint(case: Case) -> str:
    """What is wrong with the account of one case; empty when it is right."""
    try:
        audio = load_audio(case.data, allow_truncated=True)
    except AudioError as error:
        return "" if "kept" in case.deeds and not case.exact else str(error)
    missing_s = sum(note.missing_s for note in audio.notes if isinstance(note, Note))
    found_s = audio.duration_s + missing_s
    if case.exact and abs(found_s - case.seconds) > NEAR_S:
        return f"{audio.duration_s:.2f} s read and {missing_s:.2f} s noted of {case.seconds:.2f} s"
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
