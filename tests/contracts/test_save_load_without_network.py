"""A checkpoint is read whole, from disk alone, or refused by an error that names what is wrong."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import toys
from pairs import PAIRS, batch_of, model_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tiny_audio.model.checkpoint import load
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.decoder import load_decoder
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.identity import golden
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save
from tiny_audio.train.stages import train_part

PART = "model.safetensors"
# One weight of every part, and the file of it.
WEIGHTS = {
    "trained.safetensors": "projector.down_proj.weight",
    f"encoder/{PART}": "encoder.layers.0.attention.q_proj.weight",
    f"decoder/{PART}": "model.layers.1.mlp.up_proj.weight",
}


@pytest.fixture(autouse=True)
def closed_sockets() -> Iterator[None]:
    """Whatever opens a connection fails at once."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a local checkpoint opened a network connection")

    kept = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    for name in kept:
        setattr(socket.socket, name, refuse)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(socket.socket, name, method)


def toy(name: str = "hubert_swiglu_qwen3", *, lora: bool = False) -> AudioLM:
    """A toy preset with a projector that is no longer fresh, and trained adapters if asked for."""
    preset = toys.toy_preset(name)
    model = preset.build()
    for part, chosen in preset.lora.items() if lora else ():
        model.add_lora(part, chosen)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def same_weights(one: AudioLM, other: AudioLM) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-contained folder; tests that change it copy it first."""
    return save(toy(), tmp_path_factory.mktemp("saved") / "whole", whole=True)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(toy(), tmp_path_factory.mktemp("saved") / "partial")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "copy")


@pytest.fixture
def broken(whole: Path, copy: Path) -> Callable[..., Path]:
    """The copy with one file of weights as a function changes it."""

    def change(file: str, edit: Callable[[dict[str, Tensor]], None]) -> Path:
        with safe_open(whole / file, "pt") as stored:
            metadata = stored.metadata()
        weights = load_file(whole / file)
        edit(weights)
        save_file(weights, copy / file, metadata)
        return copy

    return change


# Round trips --------------------------------------------------------------------------------------


def test_the_trained_part_in_eight_bits_is_small_and_comes_back_as_it_is_stored(tmp_path):
    """Twice stored is once stored: hashes and golden vectors are those of what the file holds."""
    model = toy(lora=True)
    plain = save(model, tmp_path / "plain") / "trained.safetensors"
    small = save(model, tmp_path / "small", dtype=torch.int8) / "trained.safetensors"
    assert small.stat().st_size < 0.45 * plain.stat().st_size
    once = load(tmp_path / "small")
    twice = load(save(once, tmp_path / "twice", dtype=torch.int8))
    same_weights(once, twice)
    before, after = model.state_dict(), once.state_dict()
    for name in model.trainable():
        largest = before[name].abs().flatten(1).amax() if before[name].dim() > 1 else 1.0
        assert (before[name] - after[name]).abs().max() <= largest / 127, name
    with pytest.raises(CheckpointError, match="trained part alone"):
        save(model, tmp_path / "whole", whole=True, dtype=torch.int8)


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize(
    "name",
    toys.quick(["hubert_swiglu_qwen3", "mufun", "whisper_conv_smollm3", "nano"], ["nano"]),
)
def test_a_checkpoint_comes_back_bit_for_bit(name, is_whole, tmp_path):
    comes_back(toy(name), tmp_path / "saved", is_whole)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "projector"), PAIRS)
def test_every_encoder_with_every_projector_comes_back(encoder, projector, tmp_path):
    comes_back(model_of(encoder, projector), tmp_path / "saved", is_whole=True)


def comes_back(model: AudioLM, folder: Path, is_whole: bool) -> None:
    loaded = load(save(model, folder, whole=is_whole))
    same_weights(model, loaded)
    assert loaded.trainable().keys() == model.trainable().keys()
    batch = batch_of(model, toys.clips(9_000, 700), answers=["one", "two three"])
    assert torch.equal(model(**batch).logits, loaded(**batch).logits)


@pytest.mark.slow
def test_adapters_on_both_parts_come_back_bit_for_bit_and_ready_to_train(tmp_path):
    model = toy(lora=True)
    for is_whole in (False, True):
        loaded = load(save(model, tmp_path / str(is_whole), whole=is_whole))
        same_weights(model, loaded)
        assert loaded.trainable().keys() == model.trainable().keys()
        assert {name.split(".")[0] for name in loaded.trainable()} == {
            "audio_tower",
            "language_model",
            "projector",
        }
        again = load(save(loaded, tmp_path / f"again {is_whole}", whole=is_whole))
        same_weights(model, again)


@pytest.mark.slow
def test_base_weights_that_train_come_back_bit_for_bit(tmp_path):
    """The second stage of MuFun: everything trains. Also where tables are tied (SmolLM3)."""
    for name in ("mufun", "whisper_swiglu_smollm3"):
        model = toys.toy_preset(name).build()
        model.encoder.freeze(False)
        model.decoder.requires_grad_(True)
        with torch.no_grad():
            for parameter in model.trainable().values():
                parameter.add_(0.05 * torch.randn_like(parameter))
        for is_whole in (False, True):
            loaded = load(save(model, tmp_path / f"{name} {is_whole}", whole=is_whole))
            same_weights(model, loaded)
        tied = model.config.text_config.tie_word_embeddings
        table, head = loaded.get_input_embeddings(), loaded.get_output_embeddings()
        assert (table.weight is head.weight) == tied


@pytest.mark.slow
@pytest.mark.parametrize("part", toys.quick(["encoder", "decoder"], ["decoder"]))
def test_weights_of_an_earlier_stage_are_kept_when_they_no_longer_train(part, tmp_path):
    """Train a part, freeze it, save: its weights are nowhere else."""
    model = toys.toy_preset("whisper_swiglu_smollm3").build()
    train_part(model, part)
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            if "layers.1." in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.encoder.freeze()
    model.decoder.requires_grad_(False)
    saved = load(save(model, tmp_path / "first"))
    same_weights(model, saved)
    prefix = {"encoder": "audio_tower.", "decoder": "language_model."}[part]
    kept = {n for n in saved.config.trained if not n.startswith("projector.")}
    assert kept
    assert all(n.startswith(prefix) and "layers.1." in n for n in kept)
    saved.encoder.freeze()
    saved.decoder.requires_grad_(False)
    same_weights(model, load(save(saved, tmp_path / "second")))


@pytest.mark.slow
def test_weights_of_an_earlier_stage_are_kept_under_adapters(tmp_path):
    """Adapters rename the layers below them."""
    recipe = toys.toy_preset("hubert_swiglu_qwen3")
    model = recipe.build()
    train_part(model, "decoder")
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(1.1)
    second = load(save(model, tmp_path / "first"))
    second.decoder.requires_grad_(False)
    second.add_lora("decoder", recipe.lora["decoder"])
    third = load(save(second, tmp_path / "second"))
    same_weights(second, third)


@pytest.mark.slow
def test_what_nobody_hashed_is_saved_whole(partial, tmp_path):
    model = load(partial, check=False)
    with torch.no_grad():
        model.decoder.get_input_embeddings().weight.mul_(1.5)
    folder = save(model, tmp_path / "saved")
    assert (folder / "decoder").is_dir()
    same_weights(model, load(folder))


def test_a_partial_checkpoint_holds_only_what_was_trained(partial):
    names = set(load_file(partial / "trained.safetensors"))
    assert names == {name for name, _ in toy().named_parameters() if name.startswith("projector.")}
    assert sorted(path.name for path in partial.iterdir()) == [
        "config.json",
        "golden.safetensors",
        "trained.safetensors",
    ]


def test_other_users_may_read_a_checkpoint(whole):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in [whole, *whole.rglob("*")])


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["projector", "encoder"])
def test_a_partial_checkpoint_in_bfloat16_loads(trained, tmp_path):
    """Only what it holds is rounded; the rest is read as it is."""
    model = toy()
    if trained == "encoder":
        train_part(model, "encoder")
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.mul_(1.1)
    folder = save(model, tmp_path / "saved", dtype=torch.bfloat16)
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load(folder, dtype=dtype)
        assert loaded.projector.down_proj.weight.dtype == torch.float32
        expected = model.projector.down_proj.weight.bfloat16().float()
        assert torch.equal(loaded.projector.down_proj.weight, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hubert_swiglu_qwen3", "whisper_swiglu_smollm3"])
def test_a_bfloat16_store_loads_in_every_dtype_and_trains_in_float32(name, tmp_path):
    model = toy(name)
    folder = save(model, tmp_path / "half", whole=True, dtype=torch.bfloat16)
    for file in ("trained.safetensors", f"encoder/{PART}", f"decoder/{PART}"):
        assert {t.dtype for t in load_file(folder / file).values()} == {torch.bfloat16}
    full = load(folder)
    # What was stored at saving is what the loaded model computes, not only within the tolerance.
    for stage, value in load_file(folder / "golden.safetensors").items():
        torch.testing.assert_close(value, golden(full)[stage], rtol=1e-5, atol=1e-6)
    for name, parameter in full.named_parameters():
        rounded = dict(model.named_parameters())[name].to(torch.bfloat16).float()
        assert torch.equal(parameter, rounded), name
    for dtype in (torch.bfloat16, torch.float16):
        loaded = load(folder, dtype=dtype)
        assert {p.dtype for p in loaded.decoder.parameters()} == {dtype}
        assert {p.dtype for p in loaded.trainable().values()} == {torch.float32}


def test_adapters_on_a_bfloat16_part_are_float32():
    preset = toys.toy_preset("hubert_swiglu_qwen3")
    model = preset.build(dtype=torch.bfloat16)
    for part, lora in preset.lora.items():
        model.add_lora(part, lora)
    assert {p.dtype for p in model.trainable().values()} == {torch.float32}
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    model(**batch_of(model, toys.clips(900), answers=["one"])).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.trainable().values())


@pytest.mark.slow
def test_saving_in_a_smaller_dtype_leaves_the_model_as_it_was(tmp_path):
    model = toy()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save(model, tmp_path / "half", whole=True, dtype=torch.bfloat16)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


# LoRA ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_adapters_go_to_the_named_part_and_to_nothing_else(part):
    """Both parts have a `q_proj`; a suffix alone would hit both (trap T29)."""
    model = toys.toy_preset("hubert_swiglu_qwen3").build()
    model.add_lora(part, LoraConfig(rank=2, targets=("q_proj", "v_proj")))
    where = {"encoder": "audio_tower.", "decoder": "language_model."}[part]
    adapters = [name for name in model.trainable() if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2  # layers × targets × (A, B)
    assert all(name.startswith(where) for name in adapters)
    rest = {name for name in model.trainable() if "lora_" not in name}
    assert rest == {n for n, _ in model.named_parameters() if n.startswith("projector.")}


def test_adapters_compute_what_peft_computes():
    model = toys.toy_preset("whisper_tiny").build()
    lora = LoraConfig(rank=2, targets=("q_proj",), alpha=6)
    torch.manual_seed(0)
    model.add_lora("decoder", lora)
    torch.manual_seed(0)
    theirs = peft.get_peft_model(
        load_decoder(toys.decoder_config("llama")),
        peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"]),
    )
    with torch.no_grad():
        for name, parameter in [*theirs.named_parameters(), *model.decoder.named_parameters()]:
            if "lora_B" in name:
                parameter.fill_(0.1)
    ids = torch.arange(9, 30)[None]
    torch.testing.assert_close(model.decoder(ids).logits, theirs(ids).logits)


def test_a_second_set_of_adapters_is_refused():
    """It would reset the trained ones."""
    model = toy(lora=True)
    lora = toys.toy_preset("hubert_swiglu_qwen3").lora["decoder"]
    with pytest.raises(ConfigError, match="has LoRA adapters already"):
        model.add_lora("decoder", lora)
    with pytest.raises(ConfigError, match="no 'llm'"):
        model.add_lora("llm", lora)


def test_an_adapter_for_a_layer_that_does_not_exist_names_those_that_do():
    model = toys.toy_preset("nano").build()
    with pytest.raises(ConfigError, match=r"no layer named q_projj.*q_proj"):
        model.add_lora("decoder", LoraConfig(rank=2, targets=("q_projj",)))


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "key"), WEIGHTS.items())
def test_a_missing_renamed_added_or_reshaped_key_is_refused_and_named(file, key, broken):
    def missing(weights: dict[str, Tensor]) -> None:
        del weights[key]

    def renamed(weights: dict[str, Tensor]) -> None:
        weights[key.replace("weight", "wieght")] = weights.pop(key)

    def added(weights: dict[str, Tensor]) -> None:
        weights[key.replace("weight", "extra")] = torch.zeros(2)

    def reshaped(weights: dict[str, Tensor]) -> None:
        weights[key] = weights[key][:-1].contiguous()

    for edit, named in (
        (missing, [key]),
        (renamed, [key, key.replace("weight", "wieght")]),
        (added, [key.replace("weight", "extra")]),
        (reshaped, [key]),
    ):
        with pytest.raises(CheckpointError) as error:
            load(broken(file, edit), check=False)
        for name in named:
            assert name in str(error.value), edit.__name__


@pytest.mark.parametrize(
    ("file", "said"),
    zip(WEIGHTS, ("audio differ", "another encoder than", "another decoder than"), strict=True),
)
def test_a_part_with_other_weights_is_refused(file, said, broken):
    def other(weights: dict[str, Tensor]) -> None:
        weights[WEIGHTS[file]] *= -1.5

    with pytest.raises(CheckpointError, match=said):
        load(broken(file, other))


@pytest.mark.slow
def test_how_the_tokenizer_last_padded_does_not_matter(tmp_path):
    model = toy()
    model.tokenizer(["a", "bb"], padding=True, truncation=True, max_length=2)
    load(save(model, tmp_path / "saved"))


def test_another_tokenizer_is_refused(copy):
    path = copy / "decoder/tokenizer.json"
    path.write_text(path.read_text().replace("<|endoftext|>", "<|endofspeech|>"))
    with pytest.raises(CheckpointError, match="another tokenizer"):
        load(copy)


OTHER = {
    "instruction": "Write: <audio>",
    "system": "Hear.",
    "template": toys.TEMPLATES["llama"],
}


@pytest.mark.parametrize("key", OTHER)
def test_another_prompt_is_refused(key, copy):
    edit_config(copy, lambda config: config["prompt_config"].update({key: OTHER[key]}))
    with pytest.raises(CheckpointError, match="another prompt"):
        load(copy)


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("stage", toys.quick(["features", "frames", "audio", "logits"], ["frames"]))
def test_a_golden_vector_that_differs_or_is_missing_is_refused_and_named(stage, broken):
    def tamper(vectors: dict[str, Tensor]) -> None:
        vectors[stage] = vectors[stage] * 1.01

    def drop(vectors: dict[str, Tensor]) -> None:
        del vectors[stage]

    for edit in (tamper, drop):
        folder = broken("golden.safetensors", edit)
        with pytest.raises(CheckpointError, match=stage):
            load(folder)
        load(folder, check=False)


@pytest.mark.parametrize(
    "file", ["config.json", "golden.safetensors", "decoder/tokenizer.json", *WEIGHTS]
)
def test_a_file_that_is_cut_off_or_gone_makes_the_checkpoint_unreadable(file, copy):
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError):
        load(copy)
    (copy / file).unlink()
    with pytest.raises(CheckpointError):
        load(copy)


def test_an_unknown_key_in_the_config_is_refused_and_the_nearest_one_named(whole, copy):
    for part, key, valid in [
        (None, "projector_confg", "projector_config"),
        ("audio_config", "windw", "window"),
        ("projector_config", "hiden", "hidden"),
        ("prompt_config", "instructions", "instruction"),
    ]:
        shutil.copy(whole / "config.json", copy)
        edit_config(copy, lambda c, p=part, k=key: (c[p] if p else c).update({k: 1}))
        with pytest.raises(CheckpointError, match=f"no '{key}'. Did you mean '{valid}'"):
            load(copy)


@pytest.mark.slow
def test_every_end_of_the_decoder_comes_back(tmp_path):
    """Qwen3 stops at two ids; its generation settings are no part of its config.json."""
    model = toy()
    model.decoder.generation_config.eos_token_id = [2, 3]
    by_hand = AudioLM(model.encoder, model.projector, model.decoder, tokenizer=model.tokenizer)
    assert by_hand.config.stop_token_ids == [2, 3]
    assert load(save(by_hand, tmp_path / "saved")).config.stop_token_ids == [2, 3]


def test_an_unknown_option_is_refused_and_the_nearest_one_named(whole):
    with pytest.raises(TypeError, match=r"no option 'devcie'. Did you mean 'device'"):
        load(whole, devcie="cuda")
    with pytest.raises(TypeError, match="quantization_config"):  # of transformers, not honoured
        AudioLM.from_pretrained(whole, quantization_config={})


def test_what_is_not_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json"):
        load(tmp_path)
    for source in (tmp_path / "missing", "nano2", "./here", "a/b/c"):
        with pytest.raises(CheckpointError, match="no checkpoint folder"):
            load(source)


# Saving -------------------------------------------------------------------------------------------


def test_an_interrupted_save_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    model, folder = toy("nano"), tmp_path / "kept"
    save(model, folder, whole=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    tokenizer, model.tokenizer = model.tokenizer, None
    with pytest.raises(AttributeError):  # half-way: both parts are written, the tokenizer fails
        save(model, folder, whole=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    model.tokenizer = tokenizer
    save(model, folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert not (folder / "encoder").exists()


@pytest.mark.parametrize("config", [None, '{"model_type": "whisper"}', "[]", "{"])
def test_saving_over_a_folder_of_something_else_is_refused(config, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        save(toy("nano"), tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.slow
def test_other_files_stay_when_a_checkpoint_is_replaced(tmp_path):
    folder = save(toy("nano"), tmp_path / "saved", whole=True)
    (folder / "README.md").write_text("model card")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("main")
    save(toy("nano"), folder)
    names = {path.name for path in folder.iterdir()}
    own = {"config.json", "trained.safetensors", "golden.safetensors"}
    assert names == own | {"README.md", ".git"}
    assert (folder / ".git" / "HEAD").read_text() == "main"
    assert list(tmp_path.iterdir()) == [folder]


def test_parts_handed_in_by_hand_are_always_saved_whole(tmp_path):
    model = model_of("whisper", "linear")
    by_hand = AudioLM(model.encoder, model.projector, model.decoder, tokenizer=model.tokenizer)
    assert by_hand.config.audio_token_id == model.config.audio_token_id
    same_weights(by_hand, load(save(by_hand, tmp_path / "saved")))


@pytest.mark.slow
def test_a_model_out_of_a_self_contained_folder_never_loses_its_parts(whole, copy, tmp_path):
    """Its encoder and decoder lie nowhere else, least of all when saved where it came from."""
    model = load(copy)
    same_weights(model, load(whole))
    for place in (tmp_path / "second", copy):
        same_weights(model, load(save(model, place)))


OPENED = """
import os, socket, sys
os.environ.pop("HF_HUB_OFFLINE", None)
opened = []
def note(name):
    def refuse(*arguments, **_):
        opened.append((name, arguments[-1]))
        raise OSError("closed")
    return refuse
socket.socket.connect, socket.socket.connect_ex = note("connect"), note("connect_ex")
socket.getaddrinfo = note("getaddrinfo")
import tiny_audio
from transformers import AutoModel, AutoProcessor, pipeline
folder, other = sys.argv[1:]
tiny_audio.save(tiny_audio.load(folder), other, whole=True)
AutoModel.from_pretrained(other)
AutoProcessor.from_pretrained(other)
pipeline("automatic-speech-recognition", model=other)
assert not opened, opened
"""


@pytest.mark.slow
def test_nothing_is_asked_of_the_network_even_where_it_is_allowed(whole, tmp_path):
    """Noted instead of raised, for a library may catch what a socket raises."""
    command = [sys.executable, "-c", OPENED, str(whole), str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, timeout=300, cwd=toys.REPOSITORY)
    assert done.returncode == 0, done.stderr.decode()
