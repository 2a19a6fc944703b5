"""The commands of evaluation as they are typed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date

import pytest
import toys
from evaluate.predicted import prediction, write_run
from typed import typed

from tiny_audio.data.manifest import write_manifest

FEW_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A run of nano on the repository's samples, and what it printed."""
    folder = tmp_path_factory.mktemp("samples")
    rows = [
        {"audio": str(path), "text": text, "voice": n % 2}
        for n, (path, text) in enumerate(toys.samples())
    ]
    write_manifest(folder / "set.jsonl", rows)
    out = folder / "run"
    done = typed("eval", "nano", "--dataset", folder / "set.jsonl", "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.output


def test_eval_prints_a_line_a_sample_and_the_corpus(answered):
    _, printed = answered
    lines = printed.splitlines()
    num = len(toys.samples())
    first = next(n for n, line in enumerate(lines) if line.startswith("Sample 1: WER = "))
    assert ", Time = " in lines[first]
    assert lines[first + 1].startswith("  Ref:  ")
    assert lines[first + 2].startswith("  Pred: ")
    assert f"{num} clips; clips that failed: 0\n" in printed
    assert "normaliser: whisper-en" in printed


def test_score_finds_what_eval_found(answered):
    out, _ = answered
    found = json.loads(typed("score", out, "--json").stdout)
    assert found == json.loads((out / "result.json").read_text())
    plain = json.loads(typed("score", out, "--json", "--normalizer", "plain").stdout)
    assert plain["normalizer"] == {"id": "plain", "version": "1"}


def test_the_table_of_utterances_adds_up(answered, tmp_path):
    out, _ = answered
    assert typed("score", out, "--utterances", tmp_path / "u.csv", "--worst", 2).exit_code == 0
    with (tmp_path / "u.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wer = json.loads((out / "result.json").read_text())["scores"]["wer"]
    for name in ("substitutions", "deletions", "insertions", "length"):
        assert sum(int(row[f"word_{name}"]) for row in rows) == wer[name]


def test_what_the_system_refuses_is_one_line(answered, tmp_path):
    out, _ = answered
    for path, said in (("no/u.csv", "No such file or directory"), ("u.csv/", "Is a directory")):
        (tmp_path / "u.csv").mkdir(exist_ok=True)
        done = typed("score", out, "--utterances", tmp_path / path)
        assert done.exit_code == 2, done.exception
        assert " ".join(done.stderr.split()).endswith(f"{(tmp_path / path).name}: {said}")


def test_compare_by_a_column(answered):
    out, _ = answered
    found = json.loads(typed("compare", out, out, "--by", "voice", "--json").stdout)
    assert found["overall"]["difference"]["rate"] == 0
    assert [row["value"] for row in found["groups"]["voice"]] == ["0", "1"]
    shown = typed("compare", out, out, "--by", "voice").stdout
    assert "by voice" in shown


def lines(path, *predictions):
    path.write_text("".join(one.to_line() for one in predictions))
    return path


def test_what_cannot_be_compared_is_refused(answered, tmp_path):
    out, _ = answered
    other = lines(tmp_path / "other.jsonl", prediction(1, "a", "a"))
    done = typed("compare", out, other)
    assert done.exit_code == 2
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "predictions.jsonl"):
        text = (out / name).read_text().replace('"whisper-en"', '"plain"')
        (run / name).write_text(text)
    for command in ("compare", "score"):
        assert typed(command, out, run).exit_code == 2
        assert typed(command, out, run, "--normalizer", "none").exit_code == 0


def test_files_of_another_program(tmp_path):
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"text": "one two", "pred": "one too"}\n{"text": "three", "pred": null}\n')
    done = typed("score", path, "--ref-field", "text", "--hyp-field", "pred", "--json")
    found = json.loads(done.stdout)
    assert found["scores"]["wer"]["rate"] == 3 / 2  # "12" against "1 too", "3" against nothing
    assert found["scores"]["failed"] == 1
    assert found["speed"]["real_time_factor"] is None
    assert typed("score", path).exit_code == 2


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_where_it_stopped(tmp_path):
    source = toys.REPOSITORY / "tiny_audio" / "data" / "quickstart" / "held-out"
    command = [sys.executable, "-m", "tiny_audio", "eval", "nano", "--dataset", str(source)]
    command += ["--max-samples", "60", "--batch-s", "10", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, str(whole)], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen([*command, str(cut)], stdout=subprocess.DEVNULL)
    written, deadline = cut / "predictions.jsonl", time.monotonic() + 300
    while not (written.is_file() and written.read_bytes().count(b"\n") > 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 20 < written.read_bytes().count(b"\n") < 60
    done = subprocess.run([*command, str(cut)], check=True, capture_output=True, timeout=300)
    assert b"samples were there; going on." in done.stdout
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, cut)]
    assert results[0]["scores"] == results[1]["scores"]
    assert results[0]["counters"] == results[1]["counters"]


def test_datasets_are_one_a_line_in_a_pipe():
    done = typed("datasets")
    lines = [line.split("\t") for line in done.stdout.splitlines() if line]
    assert {len(line) for line in lines} == {7}
    assert {"quickstart", "ami", "loquacious"} <= {line[0] for line in lines}


def test_only_training_keeps_the_code_of_every_shape(monkeypatch):
    for command, kept in (("datasets", "32"), ("train", None)):
        monkeypatch.setenv(FEW_KERNELS, "")  # so that it is put back
        monkeypatch.delenv(FEW_KERNELS)
        typed(command)
        assert os.environ.get(FEW_KERNELS) == kept


@pytest.mark.slow
def test_report_and_leaderboard_of_a_run(tmp_path):
    folder, result = write_run(tmp_path / "run")
    assert typed("report", folder).exit_code == 0
    assert (folder / "report.html").is_file()
    board = tmp_path / "board"
    done = typed("leaderboard", "add", folder, "--folder", board)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (board / "leaderboard.jsonl").read_text().splitlines()]
    assert [row["wer"] for row in rows] == [result["scores"]["wer"]["rate"]]
    assert rows[0]["date"].startswith(str(date.today().year))


@pytest.mark.parametrize(
    "words",
    [
        ("understand", "--task", "gender", "--label", "text"),
        ("robustness", "--conditions", "clean"),
    ],
)
def test_a_clip_that_fails_or_is_left_out_is_told(words, tmp_path):
    """One whose end is missing fails when it is decoded; one that is not there is left out."""
    paths = [path for path, _ in toys.samples()][:2]
    data = paths[0].read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    rows = [{"audio": str(name), "text": "male"} for name in (*paths, "cut.flac", "lost.flac")]
    table = tmp_path / "m.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command, *more = words
    done = typed(command, "nano", "--dataset", table, "--out", tmp_path / "out", *more)
    assert "left out: 1 × no such file" in done.stderr, done.output
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "nowhere"), "no evaluation"),
        (("leaderboard", "add", "nowhere"), "no evaluation"),
        (("robustness", "nano", "--conditions", "loud"), "No condition 'loud'"),
        (("understand", "nano", "--task", "emotions", "--dataset", "quickstart"), "emotion"),
        (("eval", "nano", "--dataset", "quickstrt"), "Did you mean 'quickstart'?"),
        (("eval", "openai:nowhere#m", "--max-samples", "1"), "no address of a server"),
        (("eval", "hf:some/model", "--whole"), "decodes in its own way"),
        (("eval", "ctc:nano", "--whole"), "decodes in its own way"),
        (("eval", "nano", "--ctc-weight", "0.3"), "give at least two beams"),
        (("eval", "nano", "--batch-s", "-1"), "--batch-s"),
        (("eval", "nano", "--batch-s", "nan"), "--batch-s"),
    ],
)
def test_wrong_use_exits_with_2_and_says_why(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not list(tmp_path.rglob("*.jsonl"))
