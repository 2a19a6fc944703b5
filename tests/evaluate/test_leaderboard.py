"""Rows come from proved results alone; ranks say no more than intervals do."""

import json
import shutil
from dataclasses import replace

import browser
import pytest
from evaluate.predicted import SPOILT, write_run

from tiny_audio.evaluate import submission
from tiny_audio.evaluate.leaderboard import (
    MARKDOWN,
    PAGE,
    ROWS,
    add,
    grouped,
    markdown,
    page,
    rank,
    row_of,
)
from tiny_audio.evaluate.view import percent
from tiny_audio.model.errors import ConfigError

ALL_WRONG = dict.fromkeys(range(24), "wrong")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "good", {}, "good")
    write_run(root / "fair", SPOILT, "fair|<b>")
    write_run(root / "bad", ALL_WRONG, "bad")
    write_run(root / "other", {}, "good", dataset="another")
    write_run(root / "normal", {}, "good", normal="none")
    return root


def texts(folder):
    return {name: (folder / name).read_bytes() for name in (ROWS, MARKDOWN, PAGE)}


@pytest.mark.slow
def test_the_same_result_twice_changes_nothing(runs, tmp_path):
    assert add([runs / "good", runs / "bad"], tmp_path)[0] == 2
    before, times = texts(tmp_path), [(tmp_path / n).stat().st_mtime_ns for n in (ROWS, PAGE)]
    assert add([runs / "bad" / "result.json", runs / "bad"], tmp_path)[0] == 0
    assert texts(tmp_path) == before
    assert [(tmp_path / n).stat().st_mtime_ns for n in (ROWS, PAGE)] == times
    added = tmp_path / "one"
    add([runs / "good"], added)
    add([runs / "bad"], added)
    assert texts(added) == before


def test_only_what_was_measured_alike_is_ranked_together(runs, tmp_path):
    _, rows = add([runs / n for n in ("good", "bad", "other", "normal", "fair")], tmp_path)
    found = [
        (first.dataset, first.normalizer[:5], len(members)) for first, members in grouped(rows)
    ]
    assert found == [("another", "plain", 1), ("samples", "none ", 1), ("samples", "plain", 3)]
    text = (tmp_path / MARKDOWN).read_text()
    assert text.count("\n## ") == 3
    assert "fair\\|&lt;b>" in text
    assert "fair|&lt;b&gt;" in (tmp_path / PAGE).read_text()


def test_a_command_is_one_line_of_code_whatever_it_holds(runs):
    """Names and commands come from other people's results."""
    harm = "x`\n| 1 | [a](http://b) | ![c](http://d) |\n</details><script>\x1b[2J ``y``"
    row = replace(row_of(runs / "good"), system=harm, command=harm, normalizer=harm, dataset=harm)
    plain = markdown([row_of(runs / "good")])
    text = markdown([row])
    assert text.count("\n") == plain.count("\n")
    assert text.count("</details>") == 2  # the second one within a span of code
    (line,) = [line for line in text.splitlines() if line.startswith("- x")]
    _, code = line.split(": ```", 1)
    assert code.endswith("```")
    assert "```" not in code[:-3]
    outside = text.replace(code, "")
    assert "](" not in outside.replace("\\](", "")
    assert "<script>" not in outside
    assert "\x1b" not in text
    shown = page([replace(row, command="c" * 10**6)])
    assert "<script>\x1b" not in shown
    assert len(shown) < 20_000


def test_a_row_says_what_the_result_says(runs):
    row = row_of(runs / "fair")
    result = json.loads((runs / "fair" / "result.json").read_text())
    wer = result["scores"]["wer"]
    assert (row.wer, row.low, row.high) == (wer["rate"], wer["low"], wer["high"])
    assert (row.clips, row.failed) == (24, 1)
    assert row.command == result["made"]["command"]
    assert row.commit == result["made"]["commit"]
    assert result["speed"]["hardware"]["cpu"] in row.hardware


def test_ranks_overlap_where_intervals_do(runs):
    def made(low, high):
        return replace(row, wer=(low + high) / 2, low=low, high=high)

    row = row_of(runs / "good")
    members = [made(0.1, 0.2), made(0.15, 0.25), made(0.22, 0.4), made(0.5, 0.6)]
    assert [rank(one, members) for one in members] == ["1–2", "1–3", "2–3", "4"]
    assert [rank(one, [one]) for one in members[:1]] == ["1"]


@pytest.mark.parametrize("field", ["system", "made", "speed.hardware", "made.commit"])
def test_a_result_that_does_not_say_where_it_is_from_is_refused(tmp_path, field):
    folder, _ = write_run(tmp_path / "run")
    for name in ("result.json", "run.json"):
        kept = json.loads((folder / name).read_text())
        hardware = kept["made"] if name == "run.json" else kept["speed"]
        if field == "speed.hardware":
            hardware["hardware"] = None
        elif field == "made.commit":
            kept["made"]["commit"] = None
        elif name == "result.json":
            kept[field] = None
        (folder / name).write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match=f"{field}.* is missing"):
        add([folder], tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_a_result_with_other_predictions_is_refused_and_nothing_is_written(runs, tmp_path):
    folder, _ = write_run(tmp_path / "run")
    lines = (folder / "predictions.jsonl").read_text().splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(ConfigError, match="is not what"):
        add([runs / "good", folder], tmp_path / "board")
    assert not (tmp_path / "board").exists()


@pytest.mark.slow
def test_the_page_sorts_in_chromium(runs, tmp_path):
    add([runs / n for n in ("good", "bad", "fair")], tmp_path)
    with browser.browse({"width": 360, "height": 700}) as page:
        page.goto((tmp_path / PAGE).as_uri())

        def column(n):
            return page.eval_on_selector_all("tbody tr", f"r => r.map(x => x.cells[{n}].innerText)")

        rates = [percent(row_of(runs / n).wer) for n in ("good", "fair", "bad")]
        assert column(2) == rates
        page.click("th:nth-child(3) button")
        page.click("th:nth-child(3) button")
        assert column(2) == rates[::-1]
        assert browser.overflow(page) <= 0
        assert page.outside == page.complaints == []


def committed(run, folder, commit="0123456789abcdef"):
    """A copy of a run, made by the code of this commit, whatever the state of this checkout."""
    copy = shutil.copytree(run, folder / f"{run.name}-{commit[-5:]}")
    result = json.loads((copy / "result.json").read_text())
    result["made"]["commit"] = commit
    (copy / "result.json").write_text(json.dumps(result))
    return copy


def test_a_submission_gives_the_same_row_and_proves_itself(runs, tmp_path):
    good = committed(runs / "good", tmp_path)
    folder = submission.submit(good / "result.json", tmp_path / "submissions")
    row = row_of(good)
    assert add([folder], tmp_path / "board")[1] == [row]
    text = (folder / submission.REQUEST).read_text()
    assert f"{percent(row.wer)} WER ({percent(row.low)} to {percent(row.high)})" in text
    assert f"leaderboard add submissions/{folder.name}" in text
    assert submission.submit(good, tmp_path / "submissions") == folder
    other = submission.submit(committed(runs / "bad", tmp_path), tmp_path / "submissions")
    assert other != folder
    changed = (folder / "predictions.jsonl").read_text().replace('"hyp": "', '"hyp": "um ', 1)
    (folder / "predictions.jsonl").write_text(changed)
    with pytest.raises(ConfigError, match="is not what predictions"):
        add([folder], tmp_path / "board")


def test_a_result_of_code_that_no_commit_holds_is_not_handed_in(runs, tmp_path):
    dirty = committed(runs / "good", tmp_path, "0123456789abcdef-dirty")
    with pytest.raises(ConfigError, match="Commit them and evaluate again"):
        submission.submit(dirty, tmp_path / "submissions")
    assert not (tmp_path / "submissions").exists()
