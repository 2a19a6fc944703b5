"""The embedded corpus is what its card says, and a shortened quickstart leaves a whole run."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import short_quickstart
from PIL import Image
from typed import typed

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.model.checkpoint import load
from tiny_audio.presets import load as load_preset
from tiny_audio.scope.doctor.diagnosis import diagnose
from tiny_audio.train.evaluation import Evaluation
from tiny_audio.train.experiments import EMBEDDED
from tiny_audio.train.experiments import quickstart as recipe
from tiny_audio.train.quickstart import AS_MEASURED, CPU_PROCESSES, forget, quickstart


def clips(part):
    dropped = Dropped()
    found = read_source(part, SourceConfig(path=str(EMBEDDED / part)), Limits(), dropped)
    assert not dropped.places
    return found


@pytest.mark.slow
def test_the_embedded_corpus_is_what_its_card_says():
    train, held_out = clips("train"), clips("held-out")
    voices = [{clip.speaker for clip in part} for part in (train, held_out)]
    assert (len(train), len(held_out)) == (2400, 300)
    assert not voices[0] & voices[1]
    assert [len(v) for v in voices] == [430, 44]
    told = {clip.text for clip in train}
    shared = Counter(len(c.text.split()) >= 4 for c in held_out if c.text in told)
    assert shared == {False: 33}
    assert round(sum(clip.duration_s for clip in train) / 60) == 82
    size = sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file())
    assert size <= 12_000_000


@pytest.mark.long
@pytest.mark.usefixtures("spawns_at_once")
def test_a_short_quickstart_leaves_a_whole_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(short_quickstart.module, "recipe_of", short_quickstart.recipe)
    result = quickstart(tmp_path / "run", minutes=0.2, fresh=False)
    assert result["clips"] == 24
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert losses[-1] < 0.9 * losses[0], "it has begun to listen"
    assert load(tmp_path / "run" / "model").tokenizer is not None
    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 500
    assert not [f for f in diagnose(tmp_path / "run") if "no evaluation" in f.text]
    again = quickstart(tmp_path / "run", minutes=0.2, fresh=False)
    assert again["wer"] == pytest.approx(result["wer"], abs=1e-9)
    about = json.loads((tmp_path / "run" / "data.json").read_text())
    assert about["dropped"] == {}


@pytest.mark.slow
def test_eval_finds_the_figure_of_the_run_with_the_options_that_are_printed(tmp_path):
    """On 24 clips, for nano: a run's evaluation and `eval` count the same errors."""
    clips = tmp_path / "clips.jsonl"
    rows = (EMBEDDED / "held-out" / "manifest.jsonl").read_text().splitlines()[:24]
    values = [json.loads(row) for row in rows]
    for row in values:
        row["audio"] = str(EMBEDDED / "held-out" / row["audio"])
    clips.write_text("".join(json.dumps(row) + "\n" for row in values))
    data = replace(recipe().data, validation_clips=24)
    examples = read_source("x", SourceConfig(path=str(clips)), Limits(), Dropped())
    ours = Evaluation(load_preset("nano"), examples, data, seed=0)()
    options = AS_MEASURED.format(beams=data.validation_beams).split()
    asked = ["eval", "nano", "--dataset", str(clips), *options, "--out", str(tmp_path / "out")]
    assert typed(*asked).exit_code == 0
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert found["scores"]["wer"]["rate"] == ours["wer"]
    assert found["normalizer"]["id"] == ours["normalizer"]
    assert 0 < ours["wer"] < 0.3


def test_both_processes_have_work_in_every_step():
    assert recipe().data.micro_batches % CPU_PROCESSES == 0


def test_only_a_run_is_forgotten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Exception, match="not the folder of a run"):
        forget(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
