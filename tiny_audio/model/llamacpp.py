"""Translating a language model of llama.cpp into transformers' terms: config, weights, tokenizer.

Nothing is left out and nothing is guessed: a key of the model or a tensor that is not in the tables
here is refused by name.
"""

from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerFast

from .bounds import check_vocabulary
from .errors import CheckpointError
from .gguf import Gguf, read_gguf

# llama.cpp's name of a family → transformers' model_type, and whether q and k are stored in
# llama.cpp's order of RoPE (pairs beside each other) instead of transformers' (halves).
FAMILIES = {
    "llama": ("llama", True),
    "smollm3": ("smollm3", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
}
CONFIG = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
# The width of a head, which all have to agree on; and what may be left out.
HEAD_DIM = ("attention.key_length", "attention.value_length", "rope.dimension_count")
OPTIONAL = (*HEAD_DIM, "vocab_size")
WEIGHTS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
OF_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
GPT2_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False)
# How text is cut before pairs are merged, by `tokenizer.ggml.pre`.
SPLITS = {
    "gpt-2": None,
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
CONTROL, USER_DEFINED = 3, 4


def gguf_architecture(path: str) -> dict[str, Any]:
    """Return transformers' config of the language model in a GGUF file, as a dict."""
    file = read_gguf(path)
    own = f"{family(file)}."
    found = {k.removeprefix(own): v for k, v in file.metadata.items() if k.startswith(own)}
    problems = {
        "missing": [f"{own}{key}" for key in CONFIG if key not in found],
        "unknown": [f"{own}{key}" for key in found if key not in (*CONFIG, *OPTIONAL)],
        "no positive number": [k for k, v in found.items() if not is_positive(v)],
    }
    if wrong := "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys):
        raise CheckpointError(
            f"{path} describes a model that is not known here ({wrong}). Take a folder in the "
            f"Hub's layout instead."
        )
    values = {name: plain(found[key]) for key, name in CONFIG.items()}
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    values["head_dim"] = head_dim(file, found)
    values["vocab_size"] = found.get("vocab_size", file.stored["token_embd.weight"].shape[0])
    values["tie_word_embeddings"] = "output.weight" not in file.stored
    for ours, theirs in {"bos": "bos", "eos": "eos", "pad": "padding"}.items():
        values[f"{ours}_token_id"] = file.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
    return AutoConfig.for_model(FAMILIES[family(file)][0], **values).to_dict()


def family(file: Gguf) -> str:
    name = str(file.metadata.get("general.architecture"))
    if name not in FAMILIES or "token_embd.weight" not in file.stored:
        raise CheckpointError(
            f"{file.path} holds a model of the family {name!r}; read here: {', '.join(FAMILIES)}. "
            f"Take a folder in the Hub's layout instead."
        )
    return name


def head_dim(file: Gguf, found: dict[str, Any]) -> int:
    stated = {found[key] for key in HEAD_DIM if key in found}
    stated = stated or {found["embedding_length"] // found["attention.head_count"]}
    if len(stated) > 1:
        raise CheckpointError(f"{file.path}: heads of several widths ({sorted(stated)}).")
    return int(stated.pop())


def is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


def plain(value: Any) -> Any:
    """Return a float32 as people write it: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def gguf_weights(path: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the language model's weights under transformers' names."""
    file = read_gguf(path)
    name, swapped = family(file), FAMILIES[family(file)][1]
    heads = {
        "attn_q": file.metadata[f"{name}.attention.head_count"],
        "attn_k": file.metadata[f"{name}.attention.head_count_kv"],
    }
    weights = {}
    for key in file.stored:
        tensor = file.tensor(key)
        module = key.split(".")[-2] if "." in key else key
        if swapped and module in heads:
            if len(tensor) % (2 * heads[module]):
                raise CheckpointError(f"{path}: {key} has no rows for {heads[module]} heads.")
            pairs_HP2 = tensor.view(heads[module], -1, 2, *tensor.shape[1:])
            tensor = pairs_HP2.transpose(1, 2).reshape(tensor.shape)
        weights[renamed(key)] = tensor.to(dtype)
    return weights


def renamed(key: str) -> str:
    """Return transformers' name of a tensor; an unknown one keeps its own, and is refused later."""
    module, _, kind = key.rpartition(".")
    if module in WEIGHTS:
        return f"{WEIGHTS[module]}.{kind}"
    block, _, inner = module.partition(".")
    number, _, part = inner.partition(".")
    if block == "blk" and part in OF_LAYER:
        return f"model.layers.{number}.{OF_LAYER[part]}.{kind}"
    return key


def gguf_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer that a GGUF file describes, with its chat template."""
    notes = read_gguf(path).metadata
    kind, cut = notes.get("tokenizer.ggml.model"), notes.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in SPLITS:
        raise CheckpointError(
            f"{path} has a tokenizer of the kind {kind!r}, {cut!r}; read here is byte-level BPE "
            f"(gpt2) with {', '.join(SPLITS)}. Take a folder in the Hub's layout instead."
        )
    needed = [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges")]
    if missing := [name for name in needed if not isinstance(notes.get(name), list)]:
        raise CheckpointError(f"{path} has no whole tokenizer (missing: {', '.join(missing)}).")
    tokens, kinds, pairs = (notes[name] for name in needed)
    check_vocabulary(max(len(tokens), len(pairs)), path)
    merges = [tuple(pair.split(" ")) for pair in pairs]
    backend = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = splitter(SPLITS[cut])
    backend.decoder = decoders.ByteLevel()
    for token, stored in zip(tokens, kinds, strict=True):
        if stored in (CONTROL, USER_DEFINED):
            added = AddedToken(token, normalized=False, special=stored == CONTROL)
            (backend.add_special_tokens if added.special else backend.add_tokens)([added])
    special = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {ours: notes.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in special.items()}
    if notes.get("tokenizer.ggml.add_bos_token") and ids["bos"] is not None:
        bos = tokens[ids["bos"]]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, ids["bos"])]
        )
    named = {f"{ours}_token": tokens[n] for ours, n in ids.items() if n is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    tokenizer.chat_template = notes.get("tokenizer.chat_template")
    return tokenizer


def splitter(pattern: Any) -> pre_tokenizers.PreTokenizer:
    """Return what comes before merging: the pattern, then bytes."""
    if pattern is None:
        return GPT2_SPLIT
    if isinstance(pattern, str):
        isolated = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([isolated, bytes_only])
    return pre_tokenizers.Sequence([pattern, GPT2_SPLIT])
