"""Hostile checkpoint folders: one good toy checkpoint, spoiled in one place each.

`python tests/hostile/checkpoint_worker.py FOLDER` writes them one after another, loads each, and
says what became of it. A name starts with `error-` (a `CheckpointError` is right) or `any-` (a
checkpoint that loads is right, too).
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import toys
from safetensors.torch import load_file, save_file

import tiny_audio
from tiny_audio.model.checkpoint import build
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.projector import MlpConfig

Spoil = Callable[[Path], None]
MARK = "code-of-the-checkpoint-ran"  # a file that hostile code would write
TRAINED, GOLDEN = "trained.safetensors", "golden.safetensors"
LANGUAGE, SPEECH = ("decoder_config", "architecture"), ("audio_config", "architecture")


class Case(NamedTuple):
    """A way to spoil a checkpoint; `small` ones are in the default run."""

    name: str
    spoil: Spoil
    small: bool = False


def good_checkpoint(folder: Path) -> Path:
    """A whole toy checkpoint with LoRA on its decoder."""
    torch.manual_seed(0)
    encoder, decoder = toys.encoder_config("whisper"), toys.decoder_config("llama")
    model = build(encoder, MlpConfig(k=8, hidden=16), decoder)
    model.add_lora("decoder", LoraConfig(rank=2, targets=("q_proj",)))
    return tiny_audio.save(model, folder, whole=True)


def copied(good: Path, folder: Path, case: Case) -> Path:
    """A copy of the good checkpoint, spoiled."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    case.spoil(folder)
    return folder


def cases(full: bool = False) -> Iterator[Case]:
    """All of them; `full` adds those that take hundreds of megabytes of disk."""
    yield from numbers()
    yield from shapes_of_json()
    yield from foreign_code()
    yield from templates()
    yield from tensors()
    yield from tokenizers()
    yield from random_damage()
    if full:
        yield from large_ones()


# Ways to spoil ------------------------------------------------------------------------------------


def set_json(file: str, *keys: str, to: Any) -> Spoil:
    """Set one value of a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / file
        values = inner = json.loads(path.read_text())
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = to
        path.write_text(json.dumps(values))

    return spoil


def write(file: str, data: bytes | str) -> Spoil:
    """Replace or add a file."""

    def spoil(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return spoil


def change_bytes(file: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return spoil


def remove(file: str) -> Spoil:
    return lambda folder: (folder / file).unlink()


def sparse(file: str, size: int) -> Spoil:
    """A file that is large and takes no room."""

    def spoil(folder: Path) -> None:
        with (folder / file).open("wb") as out:
            out.truncate(size)

    return spoil


def change_tensors(file: str, change: Callable[[dict[str, Any]], Any], **notes: str) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file, notes or None)

    return spoil


# Cases --------------------------------------------------------------------------------------------


def numbers() -> Iterator[Case]:
    """Numbers that no model has, or that are not the files'."""
    layers = (*LANGUAGE, "num_hidden_layers")
    for value in (10**6, 10**18, 10**400, 3, 0, -1, 2.5, "two", None, [2], float("nan")):
        spoil = set_json("config.json", *layers, to=value)
        yield Case(f"error-layers-{str(value)[:20]}", spoil, small=value in (10**6, 3))
    spoiled: dict[str, Any] = {
        "hidden_size": (10**7, 0, -4, 33),
        "vocab_size": (10**9, 1),
        "intermediate_size": (10**10, 10**5),
        "num_attention_heads": (0, 10**6, 3),
        "num_key_value_heads": (0, 3),
        "head_dim": (0, 10**9),
    }
    for key, values in spoiled.items():
        for value in values:
            spoil = set_json("config.json", *LANGUAGE, key, to=value)
            yield Case(f"error-{key}-{value}", spoil, small=value == 10**10)
    for key, value in (
        ("max_position_embeddings", 10**15),
        ("num_labels", 10**9),
        ("layer_types", ["full_attention"] * 10**6),
        ("id2label", {str(n): "x" for n in range(300_000)}),
    ):
        yield Case(f"error-{key}", set_json("config.json", *LANGUAGE, key, to=value))
    for key, value in (
        ("d_model", 10**7), ("encoder_layers", 10**6), ("encoder_layers", 1),
        ("num_mel_bins", 10**9), ("num_mel_bins", 0), ("max_source_positions", 10**9),
        ("encoder_ffn_dim", 10**11), ("encoder_attention_heads", 0),
    ):  # fmt: skip
        yield Case(f"error-{key}-{value}", set_json("config.json", *SPEECH, key, to=value))
    for key, value in (
        ("layers", [-1] * 10**6), ("layers", []), ("pool", [10**9, 1]), ("pool", [0, 0]),
        ("window", "half"), ("source", "/etc"), ("source", "./../.."), ("source", 5),
    ):  # fmt: skip
        of = str(value)[:10].replace("/", "|")
        yield Case(
            f"error-audio-{key}-{of}", set_json("config.json", "audio_config", key, to=value)
        )
    for key, value in (("k", 10**9), ("k", 0), ("hidden", 10**10), ("kind", "no"), ("extra", 1)):
        spoil = set_json("config.json", "projector_config", key, to=value)
        yield Case(f"error-projector-{key}-{value}", spoil, small=value == 10**10)
    deep = {"kind": "transformer", "k": 4, "width": 32, "depth": 10**6, "heads": 4}
    yield Case("error-projector-depth", set_json("config.json", "projector_config", to=deep))
    for key, value in (
        ("rank", 10**6), ("rank", 0), ("rank", -1), ("targets", ["(q|q)+_proj"]), ("targets", []),
        ("targets", ["q_proj", "k_proj"]),
    ):  # fmt: skip
        spoil = set_json("config.json", "lora_config", "decoder", key, to=value)
        of = str(value).replace("|", "or")
        yield Case(f"error-lora-{key}-{of}", spoil, small=value == 10**6)
    spoil = set_json("config.json", "lora_config", "llm", to={"rank": 2, "targets": ["q_proj"]})
    yield Case("error-lora-of-no-part", spoil)


def shapes_of_json() -> Iterator[Case]:
    """config.json that is another kind of thing."""
    for what, text in {
        "empty": "",
        "a-list": "[]",
        "null": "null",
        "cut": '{"model_type": "tiny_audio", "audio_config": {',
        "deep": "[" * 10**5,
        "deep-in-a-key": '{"model_type": "tiny_audio", "x": ' + "[" * 900 + "]" * 900 + "}",
        "bytes": "\x00\xff\x00",
        "only-a-type": '{"model_type": "tiny_audio"}',
        "another-type": '{"model_type": "bert"}',
    }.items():
        yield Case(f"error-config-{what}", write("config.json", text), small=what == "deep")
    yield Case("error-config-30-mb", sparse("config.json", 30 * 10**6))
    yield Case("error-config-removed", remove("config.json"))
    for key, value in (
        ("audio_config", None), ("decoder_config", []), ("projector_config", "mlp"),
        ("prompt_config", 3), ("trained", [{}]), ("trained", ["x"] * 10**5), ("identity", []),
        ("identity", {"encoder": "0" * 64}), ("no_such_key", 1),
    ):  # fmt: skip
        yield Case(f"error-{key}-{str(value)[:8]}", set_json("config.json", key, to=value))
    for key, value in (
        ("stop_token_ids", "x"),
        ("stop_token_ids", [10**12]),
        ("audio_token_id", -5),
    ):
        yield Case(f"any-{key}-{value}", set_json("config.json", key, to=value))
    for part in ("encoder", "decoder"):
        yield Case(f"error-{part}-config-cut", write(f"{part}/config.json", '{"model_type":'))
        spoil = set_json(f"{part}/config.json", "num_hidden_layers", to=10**6)
        yield Case(f"error-{part}-config-layers", spoil)
    yield Case("any-generation-cut", write("decoder/generation_config.json", "{"))
    spoil = set_json("decoder/generation_config.json", "eos_token_id", to={"a": 1})
    yield Case("any-generation-eos", spoil)


def foreign_code() -> Iterator[Case]:
    """Ways to have code of a checkpoint, or of somebody else, run."""
    code = f"open({MARK!r}, 'w')\nclass Evil: pass\n"

    def with_code(file: str, *keys: str, to: Any, at: str) -> Spoil:
        def spoil(folder: Path) -> None:
            set_json(file, *keys, to=to)(folder)
            write(f"{at}/evil.py", code)(folder)
            write("evil.py", code)(folder)

        return spoil

    names = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "evil.Evil")
    for where, keys in (("config.json", ("auto_map",)), ("config.json", (*LANGUAGE, "auto_map"))):
        yield Case(f"any-auto-map-{keys[0]}", with_code(where, *keys, to=names, at="decoder"))
    yield Case(
        "any-auto-map-part", with_code("decoder/config.json", "auto_map", to=names, at="decoder")
    )
    spoil = with_code(
        "decoder/tokenizer_config.json", "auto_map", to={"AutoTokenizer": ["evil.Evil", None]},
        at="decoder",
    )  # fmt: skip
    yield Case("any-auto-map-tokenizer", spoil)
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        spoil = set_json("config.json", *LANGUAGE, key, to="somebody/kernel")
        yield Case(f"error-kernel-{key}", spoil, small=key == "attn_implementation")
    kernels = {"": "sdpa", "x": "a/b"}
    yield Case("error-kernels", set_json("config.json", *SPEECH, "attn_implementation", to=kernels))
    yield Case(
        "error-adapter", write("decoder/adapter_config.json", '{"base_model_name_or_path": "/etc"}')
    )

    def only_pickle(folder: Path) -> None:
        (folder / "decoder/model.safetensors").unlink()
        (folder / "decoder/pytorch_model.bin").write_bytes(pickle.dumps(Opens()))

    yield Case("error-pickle", only_pickle, small=True)
    index = {"metadata": {}, "weight_map": {"x": "../../../etc/passwd"}}

    def elsewhere(folder: Path) -> None:
        (folder / "decoder/model.safetensors").unlink()
        (folder / "decoder/model.safetensors.index.json").write_text(json.dumps(index))

    yield Case("error-index-elsewhere", elsewhere)
    method = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    spoil = set_json("config.json", *LANGUAGE, "quantization_config", to=method)
    yield Case("error-quantisation", spoil)


class Opens:
    """Unpickling this writes the mark."""

    def __reduce__(self) -> Any:
        return open, (MARK, "w")


def templates() -> Iterator[Case]:
    """Programs in the place of a chat template."""
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    doubling = (
        "{% set n = namespace(x='a') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}{{ n.x }}"
    )
    for what, template in {
        "loops": loops,
        "10-gb": "{{ 'a' * 10**10 }}",
        "doubling": doubling,
        "power": "{{ 10**10**10 }}",
        "format": "{{ '%1000000000d' % 1 }}",
        "filter": "{{ 'a' | center(10000000000) }}",
        "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "parentheses": "{{ " + "(" * 10**5,
        "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "changes-its-input": "{% set _ = messages.append(1) %}",
        "long-text": "a" * 10**6,
        "only-text": "hello",
        "unfinished": "{% for m in messages %}",
        "loops-later": "{% if messages|length > 1 %}"
        + loops
        + "{% endif %}{{ messages[0].content }}",
    }.items():
        spoil = set_json("config.json", "prompt_config", "template", to=template)
        yield Case(f"error-template-{what}", spoil, small=what in ("10-gb", "classes"))
    yield Case("error-template-number", set_json("config.json", "prompt_config", "template", to=5))
    spoil = set_json("config.json", "prompt_config", "instruction", to="a" * 10**7)
    yield Case("error-instruction-10-mb", spoil, small=True)
    spoil = set_json("config.json", "prompt_config", "instruction", to="<audio> <audio>")
    yield Case("error-instruction-two-clips", spoil)


def tensors() -> Iterator[Case]:
    """Files of weights."""
    for file in (TRAINED, GOLDEN, "encoder/model.safetensors", "decoder/model.safetensors"):
        of = file.replace("/model.safetensors", "").replace(".safetensors", "")
        small = file == TRAINED
        yield Case(f"error-{of}-empty", write(file, b""), small)
        yield Case(f"error-{of}-removed", remove(file))
        yield Case(
            f"error-{of}-cut", change_bytes(file, lambda data: data[: len(data) // 2]), small
        )
        yield Case(f"error-{of}-header-2**63", change_bytes(file, _long_header), small)
        yield Case(f"error-{of}-header-deep", write(file, _header(b"[" * 10**6)))
        yield Case(f"error-{of}-header-list", write(file, _header(b"[1]")))
        bad = b'{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}'
        yield Case(f"error-{of}-header-shape", write(file, _header(bad) + bytes(4)))
        spoil = change_tensors(file, lambda tensors: tensors.pop(next(iter(tensors))))
        yield Case(f"error-{of}-one-missing", spoil)
        yield Case(f"error-{of}-dev-zero", _link(file, "/dev/zero"))
        yield Case(f"error-{of}-fifo", _fifo(file))

    def rename(t: dict[str, Any]) -> None:
        t["projector.other"] = t.pop("projector.linear_1.bias")

    first = "projector.linear_1.weight"
    yield Case(
        "error-trained-one-more", change_tensors(TRAINED, lambda t: t.update(x=torch.ones(1)))
    )
    yield Case("error-trained-renamed", change_tensors(TRAINED, rename))
    for what, value in {
        "nan": torch.full((16, 256), torch.nan),
        "reshaped": torch.ones(256, 16),
        "scalar": torch.tensor(1.0),
        "bool": torch.ones(16, 256).bool(),
        "int8-without-steps": torch.ones(16, 256, dtype=torch.int8),
    }.items():
        spoil = change_tensors(TRAINED, lambda t, value=value: t.update({first: value}))
        yield Case(f"error-trained-{what}", spoil)

    def bad_steps(t: dict[str, Any]) -> None:
        t[first] = torch.ones(16, 256, dtype=torch.int8)
        t[first + ".scale"] = torch.ones(3)

    yield Case("error-trained-steps", change_tensors(TRAINED, bad_steps))
    yield Case(
        "error-golden-shape", change_tensors(GOLDEN, lambda t: t.update(audio=torch.ones(1)))
    )
    yield Case("error-golden-nan", change_tensors(GOLDEN, lambda t: t["audio"].fill_(torch.nan)))
    for dtype in ("load", "nonsense", "float8_e4m3fn"):
        spoil = change_tensors(GOLDEN, lambda t: None, dtype=dtype)
        yield Case(f"error-golden-dtype-{dtype}", spoil)


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**63) + data[8:]


def _link(file: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(target)

    return spoil


def _fifo(file: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return spoil


def tokenizers() -> Iterator[Case]:
    """A tokenizer's files."""
    file, notes = "decoder/tokenizer.json", "decoder/tokenizer_config.json"
    for what, text in {"empty": "", "list": "[]", "cut": '{"model": {', "null": "null"}.items():
        yield Case(f"error-tokenizer-{what}", write(file, text))
    yield Case("error-tokenizer-removed", remove(file))
    doubling = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    steps = {"type": "Sequence", "normalizers": [doubling] * 30}
    yield Case("error-tokenizer-doubling", set_json(file, "normalizer", to=steps), small=True)
    long = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10**6}
    yield Case("error-tokenizer-long-content", set_json(file, "normalizer", to=long))
    deep: dict[str, Any] = doubling
    for _ in range(200):
        deep = {"type": "Sequence", "normalizers": [deep]}
    yield Case("error-tokenizer-deep", set_json(file, "normalizer", to=deep))
    pattern = {"Regex": "(([a-z <|>])+)+~"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    yield Case("error-tokenizer-regex", set_json(file, "pre_tokenizer", to=split))
    for key, value in (
        ("model", {"type": "BPE", "vocab": {}, "merges": []}), ("model", 5), ("model", None),
        ("added_tokens", [{"id": "x"}]), ("normalizer", {"type": "None"}), ("decoder", 7),
    ):  # fmt: skip
        yield Case(f"error-tokenizer-{key}-{str(value)[:12]}", set_json(file, key, to=value))
    many = [f"<{n}>" for n in range(60_000)]
    spoil = set_json(notes, "extra_special_tokens", to=many)
    yield Case("error-tokenizer-60000-more", spoil, small=True)
    for key, value in (
        ("tokenizer_class", "NoSuchTokenizer"), ("tokenizer_class", 5), ("tokenizer_class", "os"),
        ("eos_token", {"a": 1}), ("model_max_length", -1), ("chat_template", 5),
    ):  # fmt: skip
        yield Case(f"any-tokenizer-{key}-{value}", set_json(notes, key, to=value))
    yield Case("any-tokenizer-notes-cut", write(notes, '{"'))
    yield Case(
        "error-template-file-10-gb", sparse("decoder/chat_template.jinja", 10**10), small=True
    )


def random_damage() -> Iterator[Case]:
    """A few bytes flipped, wherever they are."""
    files = (
        "config.json", TRAINED, GOLDEN, "encoder/config.json", "encoder/model.safetensors",
        "decoder/config.json", "decoder/model.safetensors", "decoder/tokenizer.json",
        "decoder/tokenizer_config.json",
    )  # fmt: skip
    for seed in range(3):
        for file in files:
            spoil = change_bytes(file, lambda data, seed=seed: _flipped(data, seed))
            yield Case(f"any-flipped-{seed}-{file.replace('/', '-')}", spoil)


def _flipped(data: bytes, seed: int) -> bytes:
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(3):
        out[rng.randrange(min(len(out), 4000))] ^= 1 << rng.randrange(8)
    return bytes(out)


def large_ones() -> Iterator[Case]:
    """Files of hundreds of megabytes."""
    file = "decoder/tokenizer.json"

    def million(count: int) -> Spoil:
        def spoil(folder: Path) -> None:
            values = json.loads((folder / file).read_text())
            vocabulary = values["model"]["vocab"]
            vocabulary |= {f"t{n}": n + len(vocabulary) for n in range(count)}
            (folder / file).write_text(json.dumps(values))

        return spoil

    yield Case("error-tokenizer-7-million", million(7_000_000))
    yield Case("error-tokenizer-2-million", million(2_000_000))
    spoil = set_json(
        file, "added_tokens", to=[{"id": n, "content": f"<{n}>"} for n in range(400_000)]
    )
    yield Case("error-tokenizer-400000-added", spoil)
    header = json.dumps(
        {f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(1_500_000)}
    ).encode()
    yield Case("error-trained-90-mb-header", write(TRAINED, _header(header)))
    yield Case("error-decoder-90-mb-header", write("decoder/model.safetensors", _header(header)))
