"""Whole runs of toy models: they learn, go on exactly, hand over, count what they leave out."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
import toy_runs
import toys
import yaml
from data.broken import broken_manifest
from safetensors.torch import load_file

from tiny_audio.data.examples import SourceConfig
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.checkpoint import load
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.train.recipe import Stage
from tiny_audio.train.run import train
from tiny_audio.train.saves import last_save, read_counters

pytestmark = pytest.mark.slow  # a quick run is among the tests of the command line


@pytest.mark.parametrize("name", toys.PRESETS)
def test_eight_clips_are_learnt_by_heart(tmp_path, name):
    """Exact transcripts, and every answer ends with a stop token (T38)."""
    given = toy_runs.recipe(tmp_path, name, steps=220, final_rate=0.02, cache=True)
    given = toy_runs.validated(given)
    folder = train(given)
    last = toy_runs.rows(folder, "evaluation")[-1]
    assert last["wer"] == 0
    assert last["ended"] == 1
    transcriber = Transcriber(load(folder / "model"))
    for number, text in enumerate(toy_runs.TEXTS.split("|")):
        transcript = transcriber.transcribe(tmp_path / "clips" / f"{number}.flac")
        assert (transcript.text, transcript.outcome) == (text, "ok")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "trained.safetensors")


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_recipe_trains_the_same_weights(tmp_path):
    one, other = toy_runs.recipe(tmp_path / "a"), toy_runs.recipe(tmp_path / "b")
    assert same(train(one), train(other))
    assert not same(train(one), train(replace(other, seed=1, output=str(tmp_path / "c"))))


KILLED = """
import os, sys
open({own!r}, "w").write(str(os.getpid()))
sys.path[:0] = {paths!r}
import yaml
from tiny_audio.train.recipe import Recipe
from tiny_audio.train.run import train
train(Recipe.from_dict(yaml.safe_load(open({recipe!r}))))
"""


def start(python, given, folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    recipe = folder / "given.yaml"
    recipe.write_text(yaml.safe_dump(given.to_dict()))
    script = KILLED.format(paths=[], recipe=str(recipe), own=str(folder / "pid"))
    return subprocess.Popen([python, "-c", script], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("after", [3, 11])
def test_kill_9_changes_nothing(tmp_path, python, after):
    """Killed after any save, in the middle of an epoch, taken up again: bit-equal weights."""
    given = toy_runs.recipe(tmp_path, steps=40, save_every_s=0.0)
    whole = train(replace(given, output=str(tmp_path / "whole")))
    process = start(python, given, tmp_path / "start")
    folder = Path(given.output) / "only"
    while process.poll() is None:
        found = sorted(folder.glob("step-*.safetensors")) if folder.exists() else []
        if found and int(found[-1].stem[5:]) >= after:
            os.kill(int((tmp_path / "start" / "pid").read_text()), signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    stopped = read_counters(last_save(folder))["step"]
    assert after <= stopped < 40, "it was killed in time"
    resumed = train(given)
    assert same(whole, resumed)
    steps = [row["step"] for row in toy_runs.rows(resumed, "train")]
    assert steps == list(range(1, 41)), "every step is logged once"


def test_a_finished_run_is_not_repeated(tmp_path):
    given = toy_runs.recipe(tmp_path)
    folder = train(given)
    before = (folder / "metrics.jsonl").read_bytes()
    train(given)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_the_folder_of_another_recipe_is_refused(tmp_path):
    given = toy_runs.recipe(tmp_path)
    train(given)
    with pytest.raises(ConfigError, match=r"stages\.only\.steps: 8 there, 9 now"):
        train(replace(given, stages={"only": replace(given.stages["only"], steps=9)}))


def test_processes_without_work_are_refused(tmp_path, monkeypatch):
    given = toy_runs.recipe(tmp_path)  # two micro-batches a step
    with pytest.raises(ConfigError, match=r"data\.micro_batches=3, or a multiple"):
        train(given, processes=3)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as torchrun sets it
    with pytest.raises(ConfigError, match=r"for 4 processes"):
        train(given)
    assert not (tmp_path / "run").exists()


def test_stages_hand_over_and_adapters_stay(tmp_path):
    """Projector, then LoRA on both ends, then all three; taken up between stages too."""
    lora = {
        "encoder": LoraConfig(rank=2, targets=("q_proj", "k_proj")),
        "decoder": LoraConfig(rank=4, targets=("q_proj", "v_proj")),
    }
    both = {"encoder": 1e-3, "decoder": 1e-3}
    common = {"steps": 4, "warmup_steps": 1}
    given = toy_runs.recipe(tmp_path)
    three = {
        "align": Stage(**common),
        "adapt": Stage(learning_rate=both, lora=lora, **common),
        "both": Stage(learning_rate={"projector": 1e-4, **both}, lora=lora, **common),
    }
    whole = train(replace(given, stages=three, output=str(tmp_path / "whole")))
    tables = {n: json.loads((whole / n / "table.json").read_text()) for n in three}
    assert tables["align"]["encoder"]["trainable"] == tables["align"]["decoder"]["trainable"] == 0
    assert tables["adapt"]["projector"]["trainable"] == 0
    assert tables["adapt"]["decoder"]["trainable"] == tables["both"]["decoder"]["lora"] > 0
    projector = [
        {k: v for k, v in load_file(last_save(whole / n)).items() if "projector" in k}
        for n in three
    ]
    assert projector[0].keys()
    assert not [k for k in projector[1] if k.startswith("module.")]
    model = load(whole / "model")
    assert set(model.config.lora) == {"encoder", "decoder"}
    assert any("lora_B" in n and p.abs().sum() > 0 for n, p in model.named_parameters())
    # the same, stopped after the second stage
    (whole / "both" / "done.json").unlink()
    for path in (whole / "both").glob("step-*"):
        path.unlink()
    before = weights(whole)
    train(replace(given, stages=three, output=str(whole)))
    assert all(torch.equal(before[k], v) for k, v in weights(whole).items())


@pytest.mark.usefixtures("spawns_at_once")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(tmp_path, strategy):
    """LoRA on both ends beside the projector, over two stages: losses and weights agree."""
    lora = {p: LoraConfig(rank=2, targets=("q_proj",)) for p in ("encoder", "decoder")}
    rates = {"projector": 1e-3, "encoder": 1e-3, "decoder": 1e-3}
    stages = {
        "align": Stage(steps=3, warmup_steps=1),
        "adapt": Stage(learning_rate=rates, lora=lora, steps=3, warmup_steps=1),
    }
    given = toy_runs.validated(replace(toy_runs.recipe(tmp_path), stages=stages))
    one = train(replace(given, output=str(tmp_path / "one")))
    two = train(replace(given, output=str(tmp_path / "two"), strategy=strategy), processes=2)
    for a, b in zip(toy_runs.rows(one, "train"), toy_runs.rows(two, "train"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["norm"] == pytest.approx(a["norm"], rel=1e-3)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(two)[name], weight, atol=2e-4, rtol=1e-3)
    wer = [[r["wer"] for r in toy_runs.rows(f, "evaluation")] for f in (one, two)]
    assert wer[0] == wer[1]


def test_broken_rows_are_counted_and_the_rest_trains(tmp_path):
    broken = broken_manifest(tmp_path / "broken")
    given = toy_runs.recipe(tmp_path)
    source = replace(given.data.sources["clips"], path=str(broken.path))
    given = replace(given, data=replace(given.data, sources={"clips": source}))
    folder = train(given)
    about = json.loads((folder / "data.json").read_text())
    places = {reason: len(p) for reason, p in broken.dropped.items()}
    for reason in broken.undecodable.values():  # seen only when decoded
        places[reason] = places.get(reason, 0) + 1
    assert about["dropped"] == places
    assert len(places) >= 20
    kept = about["kept"]["clips"]
    assert kept - len(broken.undecodable) == len(broken.good)


def test_speakers_are_set_apart(tmp_path):
    given = toy_runs.recipe(tmp_path)
    folder = train(replace(given, data=replace(given.data, validation_speakers=1)))
    about = json.loads((folder / "data.json").read_text())
    assert about["kept"]["clips"] == 6
    assert about["validation_clips"] == 2
    assert len(about["validation_speakers"]) == 1
    last = toy_runs.rows(folder, "evaluation")[-1]
    assert last["clips"] == 2
    assert {"loss_shuffled", "loss_silent", "token_accuracy_silent", "wer"} <= set(last)


def test_a_damaged_save_is_refused(tmp_path):
    given = toy_runs.recipe(tmp_path)
    folder = train(given)
    (folder / "only" / "done.json").unlink()
    path = last_save(folder / "only")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=path.name):
        train(given)


def test_the_best_by_wer_is_kept(tmp_path):
    given = toy_runs.validated(toy_runs.recipe(tmp_path, steps=30, evaluate_every_s=0.0))
    folder = train(given)
    best = min(r["wer"] for r in toy_runs.rows(folder, "evaluation"))
    assert json.loads((folder / "only" / "best" / "wer.json").read_text()) == pytest.approx(best)
    assert load(folder / "only" / "best").config.model_type == "tiny_audio"


def test_a_stream_trains_and_what_it_gave_is_counted(tmp_path):
    given, folder = toy_runs.recipe(tmp_path, steps=3), tmp_path / "parquet"
    folder.mkdir()
    rows = [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "text": text}
        for path, text in zip(
            sorted((tmp_path / "clips").glob("*.flac")), toy_runs.TEXTS.split("|"), strict=True
        )
    ]
    rows[3]["text"] = " "
    made = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    made.to_parquet(folder / "train.parquet")
    streamed = {"clips": SourceConfig(path=str(folder), streaming=True)}
    data = replace(given.data, sources=streamed)
    done = train(replace(given, data=data))
    assert [row["step"] for row in toy_runs.rows(done, "train")] == [1, 2, 3]
    about = json.loads((done / "data.json").read_text())
    assert about["kept"] == {"clips": 7}
    assert about["dropped"] == {"empty text": 1}
    endless = {"only": Stage(epochs=1.0, warmup_steps=1)}
    weighted = {"only": Stage(steps=1, warmup_steps=1, weights={"clips": 0.5})}
    for stages, said in ((endless, "give steps or minutes"), (weighted, "remove the stage")):
        with pytest.raises(ConfigError, match=said):
            train(replace(given, data=data, stages=stages, output=str(tmp_path / said[:4])))


def damage(path: Path) -> None:
    """Behind the header, so that only decoding shows it."""
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2 : len(stored) // 2 + 2000] = bytes(2000)
    path.write_bytes(stored)


def test_damaged_validation_clips_are_counted_and_strict_refuses_them(tmp_path):
    given = toy_runs.recipe(tmp_path, steps=2)
    own = toy_runs.manifest(tmp_path / "held-out")
    damage(own.parent / "5.flac")
    given = replace(given, data=replace(given.data, validation={"x": SourceConfig(path=str(own))}))
    folder = train(given)
    about = json.loads((folder / "data.json").read_text())
    assert list(about["places"].values()) == [[f"{own}:6"]]
    assert json.loads((folder / "result.json").read_text())["clips"] == 7
    strict = replace(given, data=replace(given.data, strict=True), output=str(tmp_path / "strict"))
    with pytest.raises(ConfigError, match=r"train\.jsonl:6"):
        train(strict)


def test_a_damaged_clip_in_a_cached_stage_leaves_the_next_as_it_would_be(tmp_path):
    common = {"learning_rate": {"projector": 5e-3}, "warmup_steps": 1, "save_every_s": 0.0}
    stages = {"cached": Stage(cache=True, steps=2, **common), "live": Stage(steps=4, **common)}
    given = replace(toy_runs.recipe(tmp_path), stages=stages)
    damage(tmp_path / "clips" / "5.flac")
    whole = train(given)
    before = weights(whole)
    (whole / "live" / "done.json").unlink()
    for path in (whole / "live").glob("step-*"):
        path.unlink()
    train(given)
    assert all(torch.equal(before[k], v) for k, v in weights(whole).items())
    assert sum(json.loads((whole / "data.json").read_text())["dropped"].values()) == 1


def test_a_source_without_a_usable_clip_says_why(tmp_path):
    given = toy_runs.recipe(tmp_path)
    unread = replace(given.data.sources["clips"], text="transcript")
    with pytest.raises(
        ConfigError, match=r"'clips' has no usable clip.*8 × no transcript \(.*jsonl:1\)"
    ):
        train(replace(given, data=replace(given.data, sources={"clips": unread})))
    train(given)  # the folder holds nothing that was trained: it is free for the right recipe


def test_what_one_of_two_processes_refuses_is_one_error(tmp_path):
    given = toy_runs.recipe(tmp_path)
    unread = replace(given.data.sources["clips"], text="transcript")
    with pytest.raises(ConfigError, match="no usable clip"):
        train(replace(given, data=replace(given.data, sources={"clips": unread})), processes=2)


def test_what_is_left_out_is_told(tmp_path, capsys):
    given = toy_runs.recipe(tmp_path, steps=1)
    rows = (tmp_path / "clips" / "train.jsonl").read_text().splitlines()
    rows[2] = rows[2].replace(".flac", ".ogg")
    (tmp_path / "clips" / "train.jsonl").write_text("\n".join(rows) + "\n")
    train(given)
    assert "Left out: 1 × no such file" in capsys.readouterr().err
