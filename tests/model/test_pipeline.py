"""People who speak transformers: Auto classes, `generate`, and the speech pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toys
from pairs import batch_of, processor_of, prompts_of
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    WhisperModel,
    pipeline,
)

from tiny_audio.model.checkpoint import load
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.generation import write
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save

TASK = "automatic-speech-recognition"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(
        toys.toy_preset("nano").build(), tmp_path_factory.mktemp("auto") / "saved", whole=True
    )


def test_auto_classes_read_a_checkpoint(folder):
    expected = load(folder).state_dict()
    assert isinstance(AutoConfig.from_pretrained(folder), AudioLMConfig)
    for auto in (AutoModel, AutoModelForSpeechSeq2Seq, AudioLM):
        model = auto.from_pretrained(folder)
        assert isinstance(model, AudioLM)
        assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())
    half = AutoModel.from_pretrained(folder, dtype="bfloat16", revision="main")
    assert half.dtype == torch.bfloat16


def test_auto_processor_makes_the_batch_that_ours_makes(folder):
    clips = toys.clips(9_000, 700)
    theirs = AutoProcessor.from_pretrained(folder)(audio=clips, sampling_rate=16_000)
    ours = batch_of(load(folder), clips)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


@pytest.mark.slow
def test_save_pretrained_writes_a_whole_checkpoint(folder, tmp_path):
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / "again")
    again, first = load(tmp_path / "again").state_dict(), load(folder).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_transformers_trainer_and_hub_can_save(folder, tmp_path):
    model = load(folder)
    state = model.state_dict()
    model.save_pretrained(tmp_path / "other rank", state_dict=state, is_main_process=False)
    assert not (tmp_path / "other rank").exists()
    model.save_pretrained(tmp_path / "saved", state_dict=state, max_shard_size="5GB")
    assert load(tmp_path / "saved")
    with pytest.raises(TypeError, match="other weights"):
        model.save_pretrained(tmp_path / "x", state_dict={"projector.a": torch.zeros(1)})
    with pytest.raises(TypeError, match="push_to"):
        model.save_pretrained(tmp_path / "x", push_to="there")


def test_what_auto_classes_cannot_be_told_is_refused(folder):
    for options in ({"stop_token_ids": [7]}, {"device_map": "auto"}, {"max_memory": {0: 1}}):
        with pytest.raises(TypeError):
            AutoModel.from_pretrained(folder, **options)
    with pytest.raises(TypeError, match="padding_sid"):
        AutoProcessor.from_pretrained(folder, padding_sid="left")


def test_the_stock_encoder_reads_its_folder(folder):
    """A whole checkpoint's parts are in the Hub's layout, Whisper's key names included."""
    stock, report = WhisperModel.from_pretrained(folder / "encoder", output_loading_info=True)
    ours = load(folder).encoder.model.state_dict()
    assert all(torch.equal(t, ours[name]) for name, t in stock.encoder.state_dict().items())
    assert all(key.startswith("decoder.") for key in report["missing_keys"])
    assert not report["unexpected_keys"]


@pytest.mark.slow
def test_the_speech_pipeline_writes_what_our_loop_writes(folder):
    model = load(folder)
    samples = toys.clips(9_000)[0]
    batch, processor = batch_of(model, [samples]), processor_of(model)
    row = write(model, *prompts_of(model, batch), processor.stop_ids(), [12])[0]
    expected = {"text": model.tokenizer.decode(row.tokens, skip_special_tokens=True).strip()}
    speech = pipeline(TASK, model=str(folder))
    raw = {"raw": samples.numpy(), "sampling_rate": 16_000}
    array = {"array": samples.numpy(), "sampling_rate": 16_000}
    assert speech([raw, array], max_new_tokens=12) == [expected] * 2
    described = speech(raw, prompt="Describe.", max_new_tokens=3)
    assert described["text"] != expected["text"]
    made_so = pipeline(TASK, model=str(folder), prompt="Describe.", max_new_tokens=3)
    assert made_so(raw) == described
    assert made_so(raw, max_new_tokens=12) != described  # a call's options go over them


@pytest.mark.slow
def test_generate_goes_on_to_the_end_of_the_limit(folder):
    """transformers alone would stop after 20 tokens (trap T37)."""
    model = load(folder)
    model.generation_config.eos_token_id = None
    batch = batch_of(model, toys.clips(9_000))
    written = model.generate(**batch)
    assert written.shape[1] - batch["input_ids"].shape[1] == 448


@pytest.mark.slow
@pytest.mark.parametrize("first", ["transformers", "tiny_audio"])
def test_importing_the_package_is_enough_in_either_order(first, folder):
    second = {"transformers": "tiny_audio", "tiny_audio": "transformers"}[first]
    code = (
        f"import {first}, {second}; m = transformers.AutoModel.from_pretrained({str(folder)!r});"
        f"p = transformers.pipeline({TASK!r}, model={str(folder)!r}); print(type(p).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "AudioLMPipeline", done.stderr
