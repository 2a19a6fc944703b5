"""Toy parts as other tools store them: a language model in a GGUF file, Whisper for CTranslate2.

The GGUF file is written by llama.cpp's own package, `model.bin` as its format is documented.
"""

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import toys
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor

from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.sources import located

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
DTYPES = ("float32", "int8", "int16", "int32", "float16")


def real(source: str) -> str:
    """A part of an installed package, as it is; the test is skipped where the package is not."""
    try:
        located(source)
    except CheckpointError as error:
        pytest.skip(str(error))
    return source


def gguf_file(path: Path, family: str = "llama", kind: str = "F32", **changes: Any) -> str:
    """The toy decoder of a family as one file. `changes`: "drop", "rename" (a tensor's name) and
    "notes" (metadata to set; None leaves a key out).
    """
    folder = Path(toys.decoder_folder(family))
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, family)
    for key, value in {**_notes(family, config), **changes.get("notes", {})}.items():
        if value is not None:
            _add(writer, key, value)
    for name, tensor in load_file(folder / "model.safetensors").items():
        key, stored = _llamacpp(name, tensor, family, config)
        if key == changes.get("drop"):
            continue
        if key == changes.get("rename"):
            key += ".old"
        _add_tensor(writer, key, stored.numpy(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _notes(family: str, config: dict[str, Any]) -> dict[str, Any]:
    tokenizer = toys.tokenizer(family)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        f"{family}.block_count": config["num_hidden_layers"],
        f"{family}.context_length": config["max_position_embeddings"],
        f"{family}.embedding_length": config["hidden_size"],
        f"{family}.feed_forward_length": config["intermediate_size"],
        f"{family}.attention.head_count": config["num_attention_heads"],
        f"{family}.attention.head_count_kv": config["num_key_value_heads"],
        f"{family}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{family}.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        f"{family}.rope.dimension_count": head,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [3 if t in toys.SPECIAL else 1 for t in vocabulary],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    add[type(value)](key, value)


def _llamacpp(name: str, tensor: Tensor, family: str, config: dict[str, Any]) -> tuple[str, Tensor]:
    module, _, kind = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{kind}", tensor
    _, _, number, part = module.split(".", 3)
    key = NAMES[part]
    if family in ("llama", "smollm3") and key in ("attn_q", "attn_k"):
        heads = config["num_attention_heads" if key == "attn_q" else "num_key_value_heads"]
        halves = tensor.view(heads, 2, -1, *tensor.shape[1:])  # as llama.cpp's converter does
        tensor = halves.transpose(1, 2).reshape(tensor.shape)
    return f"blk.{number}.{key}.{kind}", tensor.contiguous()


def _add_tensor(writer: gguf.GGUFWriter, key: str, values: np.ndarray, kind: str) -> None:
    """Vectors, and rows that are no whole blocks, stay as they are, as in real files."""
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]
    kept = "F32" if values.ndim < 2 or values.shape[-1] % block else kind
    chosen = gguf.GGMLQuantizationType[kept]
    writer.add_tensor(key, gguf.quants.quantize(values, chosen), raw_dtype=chosen)


# CTranslate2 --------------------------------------------------------------------------------------


def ct2_folder(folder: Path, kind: str = "float32", **changes: Any) -> str:
    """The toy Whisper for CTranslate2. `changes`: "drop", "rename" (a variable's name), "values"
    (variables to set), "version", "extra" (bytes at the end), "cut" (bytes to leave off).
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = {**ct2_variables(kind), **changes.get("values", {})}
    if name := changes.get("rename"):
        variables[f"{name}_old"] = variables.pop(name)
    variables.pop(changes.get("drop", ""), None)
    data = struct.pack("<I", changes.get("version", 6)) + _text("WhisperSpec")
    data += struct.pack("<II", 3, len(variables))
    data += b"".join(_variable(name, variables[name]) for name in sorted(variables))
    data += struct.pack("<I", 1) + _text("decoder/projection/weight")
    data += _text("decoder/embeddings/weight") + changes.get("extra", b"")
    (folder / "model.bin").write_bytes(data[: len(data) - changes.get("cut", 0)])
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [], "alignment_heads": []}))
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet())[:60]]
    control = ["<|pad|>", "<|startoftranscript|>", "<|endoftext|>"]
    raw = Tokenizer(models.BPE({token: n for n, token in enumerate(control + letters)}, []))
    raw.add_special_tokens([AddedToken(token, special=True) for token in control])
    raw.save(str(folder / "tokenizer.json"))
    return str(folder)


def ct2_variables(kind: str) -> dict[str, np.ndarray]:
    """The toy Whisper's weights under CTranslate2's names."""
    folder = Path(toys.encoder_folder("whisper"))
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    found = {
        "decoder/pre_norm": np.int8(1),
        "decoder/activation": np.int8(3),
        "decoder/scale_embeddings": np.int8(0),
        "decoder/start_from_zero_embedding": np.int8(0),
        "decoder/alibi": np.int8(0),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/alignment_heads": np.int16(1),
        "encoder/num_heads": np.int16(config["encoder_attention_heads"]),
        "decoder/num_heads": np.int16(config["decoder_attention_heads"]),
    }
    for name, parts in _sources(config).items():
        value = torch.cat([_weight(weights, part) for part in parts]).numpy()
        quantised = name.endswith("/weight") and "conv" not in name and kind.startswith("int")
        if quantised:
            value, found[f"{name}_scale"] = _integers(value, kind)
        else:
            value = value.astype("float32" if kind.startswith("int") else kind)
        found[name] = value
    return found


def _weight(weights: dict[str, Tensor], name: str) -> Tensor:
    """A weight; keys have no bias, and CTranslate2 stores zeros for it."""
    if name.endswith("k_proj.bias"):
        return torch.zeros_like(weights[name.replace("k_proj", "q_proj")])
    return weights[name]


def _sources(config: dict[str, Any]) -> dict[str, list[str]]:
    """CTranslate2's variables → transformers' parameters, as its converter puts them together."""
    found = {"decoder/embeddings/weight": ["model.decoder.embed_tokens.weight"]}
    for side in ("encoder", "decoder"):
        at = f"model.{side}"
        found[f"{side}/position_encodings/encodings"] = [f"{at}.embed_positions.weight"]
        linear = {f"{side}/{n}": [f"{at}.{n}"] for n in ("conv1", "conv2") if side == "encoder"}
        norms = {f"{side}/layer_norm": f"{at}.layer_norm"}
        for n in range(config[f"{side}_layers"]):
            to, of = f"{side}/layer_{n}", f"{at}.layers.{n}"
            own = [f"{of}.self_attn.{x}_proj" for x in "qkv"]
            linear |= {f"{to}/self_attention/linear_0": own}
            linear |= {f"{to}/self_attention/linear_1": [f"{of}.self_attn.out_proj"]}
            linear |= {f"{to}/ffn/linear_{i}": [f"{of}.fc{i + 1}"] for i in (0, 1)}
            norms |= {f"{to}/self_attention/layer_norm": f"{of}.self_attn_layer_norm"}
            norms |= {f"{to}/ffn/layer_norm": f"{of}.final_layer_norm"}
            if side == "decoder":
                cross = f"{of}.encoder_attn"
                linear |= {f"{to}/attention/linear_0": [f"{cross}.q_proj"]}
                linear |= {f"{to}/attention/linear_1": [f"{cross}.k_proj", f"{cross}.v_proj"]}
                linear |= {f"{to}/attention/linear_2": [f"{cross}.out_proj"]}
                norms |= {f"{to}/attention/layer_norm": f"{cross}_layer_norm"}
        for name, parts in linear.items():
            found |= {f"{name}/{k}": [f"{part}.{k}" for part in parts] for k in ("weight", "bias")}
        for name, part in norms.items():
            found |= {f"{name}/gamma": [f"{part}.weight"], f"{name}/beta": [f"{part}.bias"]}
    return found


def _integers(value: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Integers and their scale: one for all of int16, one a row of int8."""
    if kind == "int16":
        scale = np.float32(2**10 / np.abs(value).max())
        return np.rint(value * scale).astype(np.int16), scale
    most = np.abs(value).max(axis=1)
    scale = (127 / np.where(most == 0, 127, most)).astype(np.float32)
    return np.rint(value * scale[:, None]).astype(np.int8), scale


def _text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _variable(name: str, value: Any) -> bytes:
    value = np.asarray(value)
    head = _text(name) + struct.pack("<B", value.ndim)
    head += b"".join(struct.pack("<I", size) for size in value.shape)
    return head + struct.pack("<BI", DTYPES.index(value.dtype.name), value.nbytes) + value.tobytes()
