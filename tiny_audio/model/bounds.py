"""Bounds of a checkpoint: the numbers that it states are compared before anything is built.

Whoever wrote a checkpoint chose its numbers. A configuration of a kilobyte can ask for a million
layers, or for matrices that no memory holds. Numbers of layers are bounded, and the rest is
compared with the tensors that are in the files.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from .errors import CheckpointError, ConfigError

Shapes = dict[str, tuple[int, ...]]

MOST_REPEATED = 2_000  # layers, experts, labels: each is a Python object. Large models have 130.
MOST_NUMBER = 10**12
MOST_ITEMS = 200_000  # of one list or object in a configuration
MOST_DEPTH = 32  # of lists and objects in each other
MOST_TOKENS, MOST_ADDED_TOKENS = 1_000_000, 50_000  # large tokenizers have 262,144 and 30,000
MOST_TENSORS = 200_000
MOST_BUFFERED = 10**8  # numbers that a model computes for itself, such as tables of positions
MOST_REPLACEMENTS, MOST_GROWTH = 32, 1_000  # of a tokenizer's normaliser
CONFIG_BYTES, TOKENIZER_BYTES, HEADER_BYTES = 20 * 10**6, 100 * 10**6, 25 * 10**6

_REPEATED = re.compile(r"(^|_)(layers?|depth|blocks?|block_count|experts?|labels)$")
_LISTS_OF_LAYERS = re.compile(r"^conv_|^layer|layers?$|layer_types$")


def read_small_json(path: Path, most: int = CONFIG_BYTES) -> Any:
    """Read JSON of a checkpoint; one that is too large or damaged is a `CheckpointError`."""
    check_file(path, most)
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Copy it again.") from error


def check_file(path: Path, most: int) -> None:
    """Refuse a path that is no regular file, or a file of more than `most` bytes."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Copy it again.")
    if (size := path.stat().st_size) > most:
        raise CheckpointError(f"{path} has {size:,} bytes; at most {most:,} are read.")


def check_numbers(values: Any, where: str, depth: int = 0, key: str = "") -> None:
    """Refuse a configuration with numbers that no model has, and one that names foreign code."""
    if depth > MOST_DEPTH:
        raise ConfigError(f"{where} holds lists in lists, more than {MOST_DEPTH} deep.")
    if isinstance(values, Mapping):
        _check_items(values, where, key)
        for name, value in values.items():
            _check_implementation(str(name), value, where)
            check_numbers(value, where, depth + 1, str(name))
    elif isinstance(values, (list, tuple)):
        _check_items(values, where, key)
        for value in values:
            check_numbers(value, where, depth + 1)
    elif isinstance(values, int) and not isinstance(values, bool):
        _check_number(values, where, key)


def _check_number(value: int, where: str, key: str) -> None:
    most = MOST_REPEATED if _REPEATED.search(key) else MOST_NUMBER
    if abs(value) > most:
        raise ConfigError(f"{where} has {key}={value:,}; at most {most:,} are built.")


def _check_items(values: Any, where: str, key: str) -> None:
    most = MOST_REPEATED if _LISTS_OF_LAYERS.search(key) else MOST_ITEMS
    if len(values) > most:
        raise ConfigError(f"{where} has {key} with {len(values):,} items; at most {most:,} are.")


def _check_implementation(key: str, value: Any, where: str) -> None:
    """Refuse a kernel's Hub id where an attention is chosen: transformers would run it."""
    if "_implementation" in key and re.search("[/:@]", json.dumps(value)):
        raise ConfigError(f"{where} has {key}={value!r}; kernels of others are not run.")


def check_adapters(ranks: Mapping[str, int], shapes: Shapes, path: Path) -> None:
    """Compare the rank that a configuration gives a part's LoRA with the matrices in the file."""
    prefixes = {"encoder": "audio_tower.", "decoder": "language_model."}
    for part, rank in ranks.items():
        found = {
            shape[0]
            for name, shape in shapes.items()
            if name.startswith(prefixes.get(part, part)) and "lora_A" in name and shape
        }
        if found != {rank}:
            raise CheckpointError(
                f"{path} is not whole: LoRA of the {part} has the rank {rank} in config.json and "
                f"{' and '.join(map(str, sorted(found))) or 'no matrix'} in the file."
            )


def check_size(module: nn.Module, numbers: int, source: str) -> None:
    """Refuse a model on `meta` that is much larger than the numbers in its files."""
    described = sum(parameter.numel() for parameter in module.parameters())
    if described > 1.05 * numbers + 10**7:
        raise CheckpointError(
            f"{source} is not whole: its configuration describes {described:,} numbers, its files "
            f"hold {numbers:,}. Download it again."
        )
    buffered = sum(buffer.numel() for buffer in module.buffers())
    if buffered > MOST_BUFFERED:
        raise CheckpointError(
            f"{source}: its configuration asks for tables of {buffered:,} numbers; at most "
            f"{MOST_BUFFERED:,} are made."
        )


def check_module(module: nn.Module, prefix: str, shapes: Shapes, path: Path) -> None:
    """Refuse a file whose tensors under `prefix` are not the parameters of a module on `meta`."""
    due = {f"{prefix}{name}": tuple(p.shape) for name, p in module.named_parameters()}
    found = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    if problems := differences(due, found):
        raise CheckpointError(f"{path} is not whole ({problems}).")


def differences(due: Shapes, found: Shapes) -> str:
    """Say how two tables of shapes differ; "" where they do not."""
    reshaped = [name for name in due if name in found and due[name] != found[name]]
    return described(
        {
            "missing": set(due) - set(found),
            "unexpected": set(found) - set(due),
            "of another shape": reshaped,
        }
    )


def described(problems: Mapping[str, Iterable[str]]) -> str:
    """Say what is wrong with which keys, at most five of each kind; "" if nothing is."""
    found = {what: sorted(keys) for what, keys in problems.items()}
    return "; ".join(f"{what}: {', '.join(keys[:5])}" for what, keys in found.items() if keys)


def stored_shapes(path: Path) -> Shapes:
    """Read names and shapes of the tensors in a safetensors file from its header alone."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file. Copy it again.")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(HEADER_BYTES, path.stat().st_size - 8):
            raise CheckpointError(
                f"{path} is damaged, or not safetensors: its header would have {size:,} bytes."
            )
        header = file.read(size)
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}). Copy it again.") from error
    if len(shapes) > MOST_TENSORS:
        raise CheckpointError(f"{path} has {len(shapes):,} tensors; at most {MOST_TENSORS:,} are.")
    return shapes


def num_numbers(shapes: Shapes) -> int:
    """Count the numbers in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


# Tokenizers ---------------------------------------------------------------------------------------


def check_vocabulary(num_tokens: int, where: str) -> None:
    """Refuse a tokenizer with more tokens than any real one has."""
    if num_tokens > MOST_TOKENS:
        raise CheckpointError(f"{where} has {num_tokens:,} tokens; at most {MOST_TOKENS:,} are.")


def check_tokenizer(path: Path) -> None:
    """Refuse a tokenizer's file with too many tokens, or with a normaliser that swells a text."""
    values = read_small_json(path, TOKENIZER_BYTES)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object. Copy it again.")
    check_vocabulary(len(values), str(path))  # vocab.json is one table of tokens
    model = values.get("model")
    if isinstance(model, dict):
        for name in ("vocab", "merges"):
            check_vocabulary(len(model.get(name) or ()), str(path))
    for name in ("added_tokens", "added_tokens_decoder", "extra_special_tokens"):
        _check_added(values.get(name), path)
    if path.name == "added_tokens.json":
        _check_added(values, path)
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        _check_growth(values.get(name), path)


def _check_added(tokens: Any, path: Path) -> None:
    if isinstance(tokens, (dict, list)) and len(tokens) > MOST_ADDED_TOKENS:
        raise CheckpointError(
            f"{path} adds {len(tokens):,} tokens; at most {MOST_ADDED_TOKENS:,} are."
        )


def _check_growth(steps: Any, path: Path) -> None:
    """Refuse replacements that, one after another, multiply the length of a text."""
    replaced = list(_replacements(steps))
    growth = math.prod(replaced[:MOST_REPLACEMENTS])
    if len(replaced) > MOST_REPLACEMENTS or growth > MOST_GROWTH:
        raise CheckpointError(
            f"{path} replaces text {len(replaced)} times and could make it {growth:,.0f} times as "
            f"long; at most {MOST_GROWTH:,} times is."
        )


def _replacements(step: Any, depth: int = 0) -> Iterable[float]:
    """Yield how many times as long each replacement within a step could make a text."""
    if depth > MOST_DEPTH or not isinstance(step, dict):
        return
    if step.get("type") in ("Replace", "Prepend"):
        content = step.get("content") or step.get("prepend") or ""
        pattern = step.get("pattern")
        literal = pattern.get("String") if isinstance(pattern, dict) else None
        # A regular expression may match at every character, and between them.
        length = 1 + len(str(content)) if not literal else len(str(content)) / len(str(literal))
        yield max(1.0, length)
    for inner in step.values():
        for one in inner if isinstance(inner, list) else [inner]:
            yield from _replacements(one, depth + 1)
