"""The page of an evaluation: true numbers, no requests, usable without a mouse's width to spare."""

from dataclasses import replace

import browser
import pytest
from evaluate.predicted import write_run

from tiny_audio.evaluate import report
from tiny_audio.evaluate.proof import prove
from tiny_audio.evaluate.report import distribution, frequent_edits, write_report
from tiny_audio.evaluate.view import percent
from tiny_audio.model.errors import ConfigError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "run")


def test_the_page_holds_everything_and_asks_for_nothing(run):
    page = write_report(run[0]).read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:audio/mpeg;base64,") == 5  # the clips with an error, and the failed one
    assert "<img" not in page  # answers are shown, not run
    assert "no memory" in page


def test_every_clip_with_words_is_in_one_bar(run):
    _, table = prove(run[0])
    bars = distribution(table)
    assert sum(bar["count"] for bar in bars) == 24
    assert bars[0]["count"] == 19
    assert max(bar["height"] for bar in bars) == 100


def test_frequent_edits_add_up_to_the_counts(run, monkeypatch):
    monkeypatch.setattr(report, "NUM_WORDS", 1000)
    found, words = frequent_edits(prove(run[0])[1]), run[1]["scores"]["wer"]
    for kind, name in [("replace", "substitutions"), ("delete", "deletions")]:
        assert sum(count for _, _, count in found[kind]) == words[name]
    assert sum(count for _, _, count in found["insert"]) == words["insertions"] > 0


def test_groups_hold_all_clips_once(run):
    groups = report.groups(prove(run[0])[1])
    assert set(groups) == {"speaker", "age"}  # one value is no group
    assert all(sum(one["clips"] for one in members) == 24 for members in groups.values())
    assert len(groups["speaker"]) == 3


def test_texts_of_a_megabyte_make_no_large_page(run):
    """They made one of 17 MB."""
    result, table = prove(run[0])
    counts = table[0].words._replace(substitutions=9)
    long = replace(
        table[0],
        prediction=replace(table[0].prediction, id="i" * 10**6, audio="gone.wav"),
        ref="a b " * 2_000,
        hyp="word " * 3_000 + "x" * 10**6,
        words=counts,
    )
    page = report.render(result, [long, long])
    assert len(page) < 500_000
    assert "1,000,000 characters" in page


@pytest.mark.slow
def test_audio_is_bounded(run, monkeypatch):
    monkeypatch.setattr(report, "MOST_AUDIO_BYTES", 12_000)
    page = write_report(run[0]).read_text()
    assert page.count("data:audio/mpeg") < 5
    assert "no audio in this page" in page


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("predictions.jsonl", '"hyp": ""', '"hyp": "a"'),
        ("result.json", '"substitutions": ', '"substitutions": 1'),
        ("result.json", '"format": "', '"format": "another '),
    ],
)
def test_a_result_that_its_predictions_do_not_give_is_refused(tmp_path, file, old, new):
    folder, _ = write_run(tmp_path / "run")
    before = (folder / file).read_text()
    assert old in before
    (folder / file).write_text(before.replace(old, new, 1))
    with pytest.raises(ConfigError, match=r"is not what|has the format"):
        prove(folder)
    with pytest.raises(ConfigError, match="no evaluation"):
        prove(tmp_path)


def shown(page):
    return {
        name: page.inner_text(f"#{name}")
        for name in ("wer", "cer", "wer-interval", "clips", "failed", "wer-substitutions")
    }


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_chromium(run, scheme):
    path, scores = write_report(run[0]), run[1]["scores"]
    size = {"width": 360, "height": 740}
    with browser.browse(size, color_scheme=scheme, offline=True) as page:
        page.goto(path.as_uri())
        page.wait_for_function(
            "[...document.querySelectorAll('audio')].every(a => a.readyState > 0)"
        )
        wer = scores["wer"]
        assert shown(page) == {
            "wer": percent(wer["rate"]),
            "cer": percent(scores["cer"]["rate"]),
            "wer-interval": f"{percent(wer['low'])} – {percent(wer['high'])}",
            "clips": "24",
            "failed": "1",
            "wer-substitutions": str(wer["substitutions"]),
        }
        bars = page.eval_on_selector_all("svg .bar", "bars => bars.map(b => +b.textContent)")
        assert sum(bars) == 24
        check_table(page)
        assert browser.overflow(page) <= 0
        wide = page.eval_on_selector("#all th:nth-child(5)", "head => head.offsetWidth")
        assert wide >= 200, "a phone shows words, not a letter on each line"
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(20, 21, 26)") == (scheme == "dark")
        assert page.title() == "nano on samples"
        assert page.outside == page.complaints == []


def check_table(page):
    """Sorting by every kind of column, both ways; filtering to the clips that hold the words."""
    cells = "rows => rows.map(r => r.cells[{}].dataset.value ?? r.cells[{}].textContent.trim())"

    def column(n):
        return page.eval_on_selector_all("#all tbody tr", cells.format(n, n))

    page.click("#all th:nth-child(4) button")
    assert [float(v) for v in column(3)] == sorted((float(v) for v in column(3)), reverse=True)
    page.click("#all th:nth-child(4) button")
    assert [float(v) for v in column(3)] == sorted(float(v) for v in column(3))
    page.fill("#filter", "speaker=s1")
    assert page.inner_text("#shown") == "8"
    assert page.locator("#all tbody tr:visible").count() == 8
    page.fill("#filter", "")
    assert page.locator("#all tbody tr:visible").count() == 24
