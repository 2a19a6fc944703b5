"""One training sample: its losses against the whole model's, and what is refused."""

import json
import shutil

import pytest
import torch
import toys
from typed import typed

from tiny_audio import AudioProcessor, load, load_audio
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.prompt import IGNORED
from tiny_audio.scope.trace.sample import inspect, parse_place

MANIFEST = toys.REPOSITORY / "samples/manifest.jsonl"


@pytest.fixture(scope="module")
def model():
    return load("nano")


@pytest.mark.slow
def test_losses_are_those_of_the_model(model):
    """The processor's batch and the model's own mean loss say the same."""
    sample = inspect(model, MANIFEST, 3)
    path, text = toys.samples()[2]
    processor = AudioProcessor(model.tokenizer, model.config)
    batch = processor(audio=[path], answers=[text])
    with torch.inference_mode():
        loss = model(**batch).loss.item()
    assert sample.mean("own") == pytest.approx(loss, abs=1e-4)
    assert batch["input_ids"][0].tolist() == sample.prompt.ids
    assert batch["labels"][0].tolist() == sample.prompt.labels
    assert [t.id for t in sample.targets] == [n for n in sample.prompt.labels if n != IGNORED]


@pytest.mark.slow
def test_the_wrong_sounds_are_silence_and_the_next_clip(model):
    sample = inspect(model, MANIFEST, 8)  # the last line: the next clip is the first
    assert sample.other == f"{MANIFEST}:1"
    path, text = toys.samples()[7]
    processor = AudioProcessor(model.tokenizer, model.config)
    silence = load_audio(path).samples * 0
    with torch.inference_mode():
        silent = model(**processor(audio=[silence], sampling_rate=16_000, answers=[text])).loss
        other = model(**processor(audio=[toys.samples()[0][0]], answers=[text])).loss
    assert sample.mean("silent") == pytest.approx(silent.item(), abs=1e-3)
    assert sample.mean("other") == pytest.approx(other.item(), abs=1e-3)
    assert sample.mean("other") > sample.mean("own") + 1  # nano listens


def test_slots_hold_the_positions_of_the_clip(model):
    sample = inspect(model, MANIFEST, 1)
    ((start, length),) = sample.prompt.slots
    assert length == model.config.positions_for(sample.num_samples)
    assert set(sample.prompt.ids[start : start + length]) == {model.config.audio_token_id}
    assert all(label == IGNORED for label in sample.prompt.labels[: start + length])


@pytest.mark.slow
def test_a_manifest_of_one_clip_has_no_other(model, tmp_path):
    shutil.copy(toys.samples()[0][0], tmp_path / "a.flac")
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.flac", "text": "one [b] two"}))
    assert inspect(model, tmp_path / "m.jsonl", 1).other is None
    done = typed("inspect", f"{tmp_path}/m.jsonl:1")
    assert done.exit_code == 0, done.output
    assert "one [b] two" in done.output


def test_unusable_lines_are_refused_with_their_reason(model, tmp_path):
    rows = [{"audio": "nowhere.flac", "text": "one"}, {"audio": "nowhere.flac"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for line, reason in ((1, "cannot be used"), (2, "cannot be used: no text"), (7, "nothing in")):
        with pytest.raises(ConfigError, match=reason):
            inspect(model, tmp_path / "m.jsonl", line)


@pytest.mark.parametrize("text", ["manifest.jsonl", "m.jsonl:0", "nowhere.jsonl:1"])
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(ConfigError):
        parse_place(text)


@pytest.mark.slow
def test_the_command_shows_ids_slots_labels_and_losses():
    done = typed("inspect", f"{MANIFEST}:3", env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert "thirtieth" in done.output
    assert "<|audio|> × 60" in done.output
    assert "other clip: " in done.output
