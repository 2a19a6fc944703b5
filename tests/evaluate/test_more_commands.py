"""datasets, report, leaderboard, robustness and understand as a user types them."""

import json
import os
from datetime import date

import pytest
from evaluate.predicted import write_run
from typed import typed

FEW_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


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
    ],
)
def test_wrong_use_exits_with_2_and_says_why(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed(*arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not list(tmp_path.rglob("*.jsonl"))
