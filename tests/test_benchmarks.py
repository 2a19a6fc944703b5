"""The benchmarks measure what they say: both sides compute the same, and what is counted is there.

How fast anything is depends on the machine and is not tested.
"""

import importlib
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import toys
from torch.nn import functional as F

from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import load_audio
from tiny_audio.model.encoder import WhisperFrames, features
from tiny_audio.train.batch import Collator
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.task import Listening

FOLDER = toys.REPOSITORY / "benchmarks"
SCRIPT = FOLDER / "training.py"
PEAK = """
import torch
from training_parts.watch import Watch
watch = Watch("cpu")
torch.ones(64 * 2**20)  # 256 MiB, freed before it counts
held = watch.forget()
for _ in range(3):
    torch.ones(16 * 2**20)  # 64 MiB, freed every time
print(watch.peak() - held)
"""


@pytest.fixture(scope="module")
def parts():
    """Imports a file of benchmarks/."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def visits(parts):
    return parts("training_parts.step").clips_near(3.0, 2)


def gradients(model):
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


# Both sides -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_plain_step_at_true_length_is_ours(parts, visits):
    step, plain = parts("training_parts.step"), parts("training_parts.plain")
    found = []
    for ours in (False, True):
        model = step.nano("cpu")
        collate = plain.PlainCollator(step.collator(model), 0)
        if ours:
            losses = Listening(model)(Collator(model, few_shapes=True)(visits))
            loss = losses.total / losses.tokens
        else:
            loss = plain.PlainStep(model, step.STAGE).loss(collate(visits))
        loss.backward()
        found.append((loss, gradients(model)))
    (plain_loss, plain_gradients), (our_loss, our_gradients) = found
    torch.testing.assert_close(plain_loss, our_loss)
    assert set(plain_gradients) == set(our_gradients)
    assert all(name.startswith("projector.") for name in our_gradients)
    torch.testing.assert_close(plain_gradients, our_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_reference_hears_30_s_of_every_clip(parts, visits):
    step, plain = parts("training_parts.step"), parts("training_parts.plain")
    model = plain.with_long_window(step.nano("cpu"), step.STAGE)
    batch = plain.PlainCollator(step.collator(model), plain.WINDOW_S)(visits)
    assert batch.audio.values.shape == (2, 80, 3000)
    assert batch.audio.lengths_B.tolist() == [3000, 3000]
    assert model.is_audio(batch.ids_BL).sum(1).tolist() == [1500 // 4] * 2


@pytest.mark.slow
def test_the_long_window_keeps_the_encoder(parts):
    step, plain = parts("training_parts.step"), parts("training_parts.plain")
    short, clips = step.nano("cpu"), toys.clips(20_000, 9_000)
    long = plain.with_long_window(short, step.STAGE).audio_tower
    heard = features(short.config.encoder, clips)
    again = WhisperFrames(short.config.encoder, long.model)  # the long table, at true length
    with torch.no_grad():
        torch.testing.assert_close(short.audio_tower(heard), again(heard), rtol=0, atol=0)
    assert long.model.embed_positions.weight.shape[0] == 1500


@pytest.mark.slow
def test_positions_that_were_learned_are_not_continued(parts):
    step, plain = parts("training_parts.step"), parts("training_parts.plain")
    model = step.nano("cpu")
    model.audio_tower.model.embed_positions.weight.data[7] += 0.1
    with pytest.raises(ValueError, match="not sinusoids"):
        plain.with_long_window(model, step.STAGE)


@pytest.mark.slow
def test_a_cached_step_reads_every_clip_from_the_cache(parts, visits, tmp_path):
    step = parts("training_parts.step")
    model = step.nano("cpu")
    collate, _ = step.parts_of("cached", model, visits, tmp_path)
    assert isinstance(collate.cache, FrameCache)
    assert len(collate.cache) == len(visits)
    width = model.config.encoder.width
    assert collate(visits).audio.values.shape[::2] == (len(visits), width)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [5, 150])
def test_both_losses_over_a_vocabulary_are_one(parts, rows):
    vocabulary = parts("training_parts.vocabulary").vocabulary
    shape = {"rows": rows, "width": 40, "words": 60_000, "repetitions": 1, "device": "cpu"}
    full, chunked = (vocabulary(variant, "bfloat16", **shape) for variant in ("full", "chunked"))
    assert chunked["loss"] == pytest.approx(full["loss"], rel=1e-5)
    assert chunked["gradient"] == pytest.approx(full["gradient"], rel=0.02, abs=1e-3)
    assert any(full["gradient"])


# What is counted ------------------------------------------------------------------------------


@pytest.mark.slow
def test_operations_of_products_and_of_attention_are_counted(parts):
    counted = parts("training_parts.language_model").counted
    a, b = torch.randn(5, 7), torch.randn(7, 11)
    assert counted(lambda: a @ b) == 2 * 5 * 7 * 11
    q = torch.randn(2, 3, 13, 8)
    assert counted(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 3 * 13 * 13 * 8)


@pytest.mark.slow
def test_a_frozen_decoder_takes_four_operations_per_weight_and_position(parts):
    step, measured = parts("training_parts.step"), parts("training_parts.language_model")
    model = step.nano("cpu")
    model.language_model.set_attn_implementation("eager")
    once, (rows, length) = measured.part(model, 2, 3.0)
    hf = model.language_model.config
    linear = [m for m in model.language_model.model.modules() if isinstance(m, torch.nn.Linear)]
    layers = 4 * rows * length * sum(m.weight.numel() for m in linear)
    attended = 2 * rows * hf.num_attention_heads * length**2 * hf.head_dim
    attention = hf.num_hidden_layers * (2 * attended + 4 * attended)  # forward, backward
    head = 4 * 128 * hf.hidden_size * hf.vocab_size  # supervised rows, padded to 128
    rotary = measured.counted(once) - layers - attention - head
    assert 0 <= rotary < 0.001 * layers  # positions times frequencies is a product as well


@pytest.mark.slow
def test_peak_memory_is_what_was_added_since_the_last_look(python):
    """In a process of its own, as every variant is measured."""
    done = subprocess.run([python, "-c", PEAK], cwd=FOLDER, capture_output=True, text=True)
    added = float(done.stdout) / 2**20
    assert 62 <= added < 80  # the kernel counts a few pages late


@pytest.mark.slow
def test_time_goes_to_the_kinds_of_operations_that_ran(parts):
    shares = parts("training_parts.language_model").shares
    a = torch.randn(512, 512)
    found = shares(lambda: [a @ a for _ in range(20)], "cpu")
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=found.get) == "matrix products"


# The command ----------------------------------------------------------------------------------


def numbers(value):
    """All numbers of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.long
def test_a_quick_run_is_complete(tmp_path, python, parts, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", python)  # its children start at once
    asked = ["--quick", "--threads", "1", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *asked])
    monkeypatch.chdir(FOLDER)
    parts("training").main()
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    found = result["cpu"]
    assert result["quick"]
    assert set(result["hardware"]) >= {"cpu", "threads", "torch", "load_average_at_start", "commit"}
    assert all(math.isfinite(n) for n in numbers(found))
    assert set(found["steps"]) == {"reference", "unpadded", "live", "cached"}
    for row in found["steps"].values():
        assert min(row["step_ms"]["min"], row["peak_bytes"], row["times"]) > 0
    for row in [*found["language_model"]["rows"], *found["growth"]["rows"]]:
        assert min(numbers(row.get("flops", row.get("peak_bytes")))) > 0
    assert [row["clips"] for row in found["growth"]["rows"]] == [10, 40]
    losses = {name: row["first_loss"] for name, row in found["steps"].items()}
    assert losses["live"] == pytest.approx(losses["unpadded"], rel=1e-3)
    for row in found["vocabulary"]:
        assert row["loss_difference"] < 1e-5
        assert row["gradient_difference"] < 0.02
    assert len(found["goals"]) == 5
    assert all(row["what"].split(",")[0] in printed for row in found["goals"])
    assert "A step on 2 clips of 3 s" in printed


def test_figures_are_kept_when_they_are_measured(tmp_path, capsys, parts):
    training = parts("training")
    training.keep(tmp_path / "out", "step", {"clips": 2}, {"step_ms": 3.5})
    training.keep(tmp_path / "out", "step", {"clips": 4}, {"step_ms": 7.0})
    lines = (tmp_path / "out" / "figures.jsonl").read_text().splitlines()
    assert [json.loads(line)["found"]["step_ms"] for line in lines] == [3.5, 7.0]
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.long
def test_a_quick_run_of_inference_is_complete(tmp_path, python):
    command = [python, str(FOLDER / "inference.py"), "--quick", "--out", str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["quick"]
    assert set(found["variants"]) == {"float32", "bfloat16", "int8"}
    assert all(row["same_tokens_as_last"] for row in found["mixed"]["rows"].values())
    assert all(row["wall_s"] > 0 for row in found["short"]["rows"].values())
    assert all(row["clips_per_s"] > 0 for row in found["variants"].values())
    assert len(found["goals"]) == 4


# Who spoke ------------------------------------------------------------------------------------


def test_errors_of_speakers_are_those_of_the_best_mapping(parts):
    speakers = parts("speakers")
    truth = np.array([0] * 4 + [-1] * 2 + [1] * 4)
    found = np.array([5] * 3 + [-1] * 2 + [0] * 5)
    assert speakers.errors(truth, found, 0) == (8, 1, 1, 0)
    assert speakers.errors(truth, found, 0).rate == 2 / 8
    one = np.zeros(10, int)
    assert speakers.errors(truth, one, 0) == (8, 0, 2, 4)
    assert speakers.errors(truth, truth, 1) == (4, 0, 0, 0)


def test_a_conversation_is_as_long_as_its_truth(parts):
    speakers, rng = parts("speakers"), random.Random(1)
    made = speakers.conversation(lambda n, _: 0.1 * (1 + n) * torch.randn(16_050), 3, rng)
    assert len(made.samples_N) == len(made.truth_T) * speakers.FRAME
    assert set(made.truth_T.tolist()) == {-1, 0, 1, 2}
    for start in np.flatnonzero(np.diff(made.truth_T)) + 1:
        first = made.samples_N[start * speakers.FRAME :][: speakers.FRAME]
        assert float(first.std()) == pytest.approx(
            0.1 * (1 + made.truth_T[start]), rel=0.3, abs=1e-3
        )


# Speculative decoding --------------------------------------------------------------------------


@pytest.mark.slow
def test_no_draft_changes_what_greedy_decoding_writes(parts):
    speculative, transcriber = parts("speculative"), Transcriber.from_pretrained("nano")
    samples_N = load_audio(toys.samples()[0][0]).samples
    prompt, _ = transcriber.encode([Window(0, samples_N)])
    plain = speculative.Greedy(transcriber)
    right = plain.write(prompt, [], 40)
    assert plain.passes == len(right) + 1  # and the stop
    for draft in (right, right[2:], [*right[:2], 5, *right[2:]], [5] * 9, [*right, 7, 8]):
        drafted = speculative.Greedy(transcriber)
        assert drafted.write(prompt, draft, 40) == right
        assert drafted.passes <= plain.passes
    known = speculative.Greedy(transcriber)
    known.write(prompt, right, 40)
    assert (known.passes, known.accepted) == (1, len(right))


@pytest.mark.parametrize(
    ("draft", "written", "left"),
    [
        ("abcd", "ab", "cd"),
        ("abcd", "xb", "cd"),
        ("abcd", "b", "bcd"),
        ("acd", "ab", "d"),
        ("a", "aab", ""),
    ],
)
def test_the_draft_goes_on_where_it_is_most_like_the_text(parts, draft, written, left):
    assert parts("speculative").rest(list(draft), list(written)) == list(left)
