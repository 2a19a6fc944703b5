"""Every command that makes nano, one after the other, on a corpus of a few noises."""

import json
import sys

import numpy as np
import pytest
import torch

from recipes.nano import __main__ as command
from recipes.nano import sources, stages
from recipes.nano.scores import SETS
from recipes.nano.shards import write_shard
from tiny_audio import Transcriber
from tiny_audio.model.checkpoint import load

pytestmark = pytest.mark.slow
SENTENCES = ["turn on the light", "seven", "what time is it", "call anna at half past nine"]


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("speech", "domain-test", "fsdd-train", "fsdd-test"):
        clips = [rng.integers(-3000, 3000, n).astype(np.int16) for n in range(8_000, 40_000, 2_000)]
        rows = [
            {
                "text": SENTENCES[n % 4],
                "kind": ("number", "book")[n % 2],
                "speaker": f"flite:{n % 3}",
            }
            for n in range(len(clips))
        ]
        write_shard(tmp_path / "corpus" / name, 0, clips, rows)
        for part in ("train", "test"):
            write_shard(tmp_path / "corpus" / f"speechocean762-{part}", 0, clips, rows)
    return tmp_path


def test_the_stages_of_nano_run_one_after_the_other(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "BATCHES_A_SHARD", 1)
    monkeypatch.setattr(sources, "training_text", lambda rng: (rng.choice(SENTENCES), "number"))
    preset = tmp_path / "preset"

    def stage(name, *options):
        shared = ["--folder", corpus, "--preset", preset, "--processes", 1, "--rows", 8]
        shared += ["--batch-seconds", 6, "--samples", tmp_path / "samples"]
        argv = ["nano", name, *map(str, [*shared, *options])]
        monkeypatch.setattr(sys, "argv", argv)
        command.main()

    for name in ("encoder", "decoder"):
        stage(name, "--steps", 2)
    stage("frames", "--shards", 2)
    stage("align", "--steps", 2)
    stage("align", "--steps", 2, "--freeze-decoder")
    stage("joint", "--steps", 2)
    stage("pack")
    first = load(preset)
    stage("head", "--steps", 2)
    stage("evaluate", "--out", tmp_path / "figures")
    stage("samples")

    result = json.loads((tmp_path / "figures" / "result.json").read_text())
    assert set(SETS) < set(result)
    assert result["fsdd"]["clips"] == 14  # 16 without the two that are watched
    assert (tmp_path / "samples" / "manifest.jsonl").exists()
    written = Transcriber(first).transcribe(torch.zeros(16_000), sampling_rate=16_000)
    assert written.duration_s == 1
    with pytest.raises(Exception, match="another run: origin"):
        stage("encoder", "--steps", 4, "--seed", 1)
    stage("joint", "--steps", 2)  # its budget is spent: nothing happens to the packed weights
    stage("pack")
    again = load(preset)
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in first.state_dict().items())
