"""Fitting a model to own clips: how they are parted, what is measured, what is called a gain."""

import json
from pathlib import Path

import pytest
import toys
from typed import typed

from tiny_audio.commands.adapt import verdict
from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.manifest import read_manifest, write_manifest
from tiny_audio.model.errors import ConfigError
from tiny_audio.train.adapt import adapt, measured, part, parted
from tiny_audio.train.experiments import EMBEDDED


def rows(num_speakers, num_texts, count=40):
    return [
        {"audio": f"/{n}.wav", "text": f"text {n % num_texts}", "speaker": n % num_speakers}
        for n in range(count)
    ]


@pytest.mark.parametrize(("num_speakers", "column"), [(8, "speaker"), (2, "text")])
def test_no_speaker_is_on_both_sides_or_no_text_where_speakers_are_few(num_speakers, column):
    given = rows(num_speakers, 20)
    apart, rest = parted(given)
    assert sorted(r["audio"] for r in apart + rest) == sorted(r["audio"] for r in given)
    assert not {r[column] for r in apart} & {r[column] for r in rest}
    assert 8 <= len(apart) <= 13  # a fifth, in whole groups
    assert parted(given) == (apart, rest)


def test_clips_that_cannot_be_parted_or_used_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="same text"):
        parted(rows(1, 1))
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text('{"audio": "gone.wav", "text": "one"}\n' * 12)
    with pytest.raises(ConfigError, match="12 × no such file"):
        part(manifest, tmp_path / "data")
    with pytest.raises(ConfigError, match=r"has 8 usable clips .* Record more clips\.$"):
        part(toys.REPOSITORY / "samples" / "manifest.jsonl", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_folder_of_other_clips_is_refused_and_the_same_goes_on(clips, tmp_path):
    part(clips, tmp_path / "run" / "data")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run" / "data").iterdir()}
    part(clips, tmp_path / "run" / "data")
    other = tmp_path / "other.jsonl"
    lines = clips.read_text().splitlines()
    other.write_text("\n".join([*lines[:-1], lines[-1].replace('"text": "', '"text": "not ')]))
    with pytest.raises(ConfigError, match=r"run holds a run on other clips than those of .*other"):
        part(other, tmp_path / "run" / "data")
    assert {p.name: p.read_bytes() for p in (tmp_path / "run" / "data").iterdir()} == before


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.2, "fewer errors"), (-0.2, -0.01, "more errors"), (-0.1, 0.3, "may be chance"),
     (None, None, "may be chance")],
)  # fmt: skip
def test_only_an_interval_without_0_is_a_gain(low, high, words):
    difference = {"rate": 0.1, "low": low, "high": high}
    found = {"a": {"rate": 0.3}, "b": {"rate": 0.2}, "difference": difference}
    assert words in verdict(found, Path("runs/adapt"))


def test_where_nothing_is_wrong_nothing_can_be_gained():
    difference = {"rate": 0.0, "low": 0.0, "high": 0.0}
    found = {"a": {"rate": 0.0}, "b": {"rate": 0.0}, "difference": difference}
    assert "Neither model makes an error" in verdict(found, Path("runs/adapt"))


@pytest.fixture
def clips(tmp_path):
    """Twelve clips of the quickstart's corpus in a manifest of its own."""
    examples = read_source(
        "clips", SourceConfig(path=str(EMBEDDED / "held-out")), Limits(), Dropped()
    )[:12]
    written = [{"audio": e.sound.name, "text": e.text} for e in examples]
    write_manifest(tmp_path / "mine.jsonl", written)
    return tmp_path / "mine.jsonl"


def test_clips_that_the_test_left_out_or_that_failed_in_it_are_told(clips, tmp_path, monkeypatch):
    """One that is no audio is left out, one whose end is missing fails; nothing is trained."""
    given = read_manifest(clips).rows
    for number, row in enumerate(parted(given)[0][:2]):
        whole = toys.samples()[0][0].read_bytes()
        row["audio"] = str(tmp_path / f"{number}.flac")
        Path(row["audio"]).write_bytes(whole[: len(whole) // 2] if number else b"no sound at all")
    write_manifest(clips, given)
    monkeypatch.setattr("tiny_audio.train.adapt.train", lambda recipe: None)
    monkeypatch.setattr("tiny_audio.train.adapt.decode_as_before", lambda model, folder: None)
    monkeypatch.setattr(
        "tiny_audio.train.adapt.measured",
        lambda model, *others: measured("nano", *others),
    )
    done = typed("adapt", "--data", clips, "--model", "nano", "--out", tmp_path / "run")
    assert "left out of the test: 1 × not audio" in done.stderr, done.output
    assert "count as deleted: 1 ×" in done.stderr
    assert done.exit_code == 1
    stored = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert stored["dropped"] == {"not audio": 1}
    assert list(stored["failed"].values()) == [1]


def test_a_model_is_measured_trained_and_measured_on_the_same_clips(clips, tmp_path):
    found = adapt("nano", clips, tmp_path / "run", minutes=0.03, device="cpu")
    apart = read_manifest(tmp_path / "run" / "data" / "held-out.jsonl").rows
    assert found["overall"]["clips"] == len(apart) >= 2
    stored = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert stored["overall"] == found["overall"]
    weights = [(tmp_path / "run" / name / "run.json").read_text() for name in ("before", "after")]
    hashes = [json.loads(text)["system"]["checkpoint"] for text in weights]
    assert hashes[0]["projector"] != hashes[1]["projector"]
    assert hashes[0]["language_model"] == hashes[1]["language_model"]
