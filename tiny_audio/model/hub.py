"""Reading pretrained parts and checkpoints of the Hub, whole or not at all.

transformers starts missing weights at random and only logs it. Here its report decides.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, logging

from .bounds import (
    CONFIG_BYTES,
    Shapes,
    check_file,
    check_numbers,
    check_size,
    check_tokenizer,
    described,
    num_numbers,
    read_small_json,
    stored_shapes,
)
from .ctranslate2 import ct2_architecture, ct2_weights, read_ct2
from .errors import CheckpointError, TinyAudioError, nearest
from .gguf import read_gguf
from .llamacpp import gguf_architecture, gguf_tokenizer, gguf_weights
from .sources import kind_of, located, quantised_as

# What a download may be told, and which files of a checkpoint of ours it fetches.
OPTIONS = ("revision", "token", "local_files_only")
FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


def hub_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that encoder and decoder take too; `TypeError` for an unknown one."""
    if unknown := sorted(set(given) - set(OPTIONS)):
        guess = nearest(unknown[0], [*OPTIONS, "dtype", "device", "check"])
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise TypeError(f"There is no option {unknown[0]!r}.{hint}")
    return {key: value for key, value in given.items() if key != "revision"}


def where(source: str, hub: dict[str, Any]) -> dict[str, Any]:
    """Return options for transformers, so that a folder is never looked for on the Hub."""
    return {**hub, "local_files_only": Path(source).is_dir() or bool(hub.get("local_files_only"))}


def download(hub_id: str, **hub: Any) -> Path:
    """Download a Hub repository, and return its folder in the local cache."""
    try:
        return Path(snapshot_download(hub_id, allow_patterns=FILES, **hub))
    except (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{hub_id} is neither a folder here nor could it be read from the Hub ({error}). "
            f"Check the name and the connection, or download it first."
        ) from error


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Silence transformers' log while it reads; its failures become a `CheckpointError`."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with refused(
            source,
            "Check the name and the connection; weights are read from safetensors only, never "
            "from pickled .bin files.",
        ):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def refused(source: Any, cure: str) -> Iterator[None]:
    """Turn whatever fails while `source` is read into a `CheckpointError`: its author chose the
    input, and libraries answer bad input with any exception, also with a panic of compiled code.
    Errors that this library raises on purpose pass.
    """
    try:
        yield
    except (TinyAudioError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise CheckpointError(f"{source} cannot be read ({_short(error)}). {cure}") from error


def _short(error: BaseException) -> str:
    """Return an error's text, of which a file may have written most, with its type."""
    text = " ".join(str(error).split())
    if not isinstance(error, (OSError, ValueError)):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 300 else f"{text[:300]} …"


def part_file(place: str, name: str, hub: dict[str, Any]) -> Path | None:
    """Find a file of a part in the Hub's layout, in its folder or on the Hub, or None."""
    found = cached_file(
        place,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
        **where(place, hub),
    )
    return None if found is None else Path(found)


def part_shapes(place: str, hub: dict[str, Any]) -> Shapes:
    """Read names and shapes of a part in the Hub's layout from the headers of its files."""
    if index := part_file(place, "model.safetensors.index.json", hub):
        listed = read_small_json(index)["weight_map"].values()
        names = sorted({str(name) for name in listed})
        if foreign := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{index} names files elsewhere: {foreign[0]!r}.")
    else:
        names = ["model.safetensors"]
    shapes: Shapes = {}
    for name in names:
        if file := part_file(place, name, hub):
            shapes |= stored_shapes(file)
    return shapes


def check_part_config(place: str, hub: dict[str, Any]) -> None:
    """Check a part's config.json before transformers builds from it."""
    if Path(place, "adapter_config.json").exists():
        raise CheckpointError(
            f"{place} is an adapter for another model; merge it into that model first."
        )
    if file := part_file(place, "config.json", hub):
        check_numbers(read_small_json(file), str(file))


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
)


def check_part_tokenizer(place: str, hub: dict[str, Any]) -> None:
    """Check a tokenizer's files before it is built from them."""
    for name in TOKENIZER_FILES:
        if file := part_file(place, name, hub):
            check_tokenizer(file)
    for name in ("chat_template.jinja", "chat_template.json"):
        if file := part_file(place, name, hub):
            check_file(file, CONFIG_BYTES)


def architecture_of(source: str, **hub: Any) -> dict[str, Any]:
    """Return a pretrained part's own configuration, without its weights."""
    place = located(source)
    with reading(source):
        match kind_of(place):
            case "gguf":
                return gguf_architecture(place)
            case "ctranslate2":
                return ct2_architecture(place)
        check_part_config(place, hub)
        options = where(place, hub)
        return AutoConfig.from_pretrained(place, trust_remote_code=False, **options).to_dict()


def quantisation_of(source: str) -> str:
    """Return how a part's weights are, or were, quantised; "" for not at all."""
    place = located(source)
    match kind_of(place):
        case "gguf":
            return read_gguf(place).quantisation()
        case "ctranslate2":
            return read_ct2(place).quantisation()
    return quantised_as(place)


def read_tokenizer(source: str, **hub: Any) -> PreTrainedTokenizerBase:
    """Read a language model's tokenizer, as it is."""
    place = located(source)
    match kind_of(place):
        case "gguf":
            return gguf_tokenizer(place)
        case "ctranslate2":
            raise CheckpointError(
                f"{source} is a Whisper model for CTranslate2. It can be the encoder; the decoder "
                f"is a language model, in a GGUF file or in the Hub's layout."
            )
    with reading(source):
        check_part_tokenizer(place, hub)
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **where(place, hub))


def own_weights(place: str, dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """Return weights in the formats that are read here; None where transformers reads them."""
    match kind_of(place):
        case "gguf":
            return gguf_weights(place, dtype)
        case "ctranslate2":
            return ct2_weights(place, dtype)
    return None


def read_part(
    kind: Any,
    source: str,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    hub: dict[str, Any],
    *,
    may_hold_more: bool = False,
    **options: Any,
) -> Any:
    """Read a pretrained model of class `kind`; a missing, unknown or reshaped weight is refused.

    `may_hold_more`: weights of modules that `kind` does not have (Whisper's decoder) are left out.
    """
    place = located(source)
    weights = own_weights(place, dtype)
    with reading(source):
        if weights is None:
            check_part_config(place, hub)
            stored = part_shapes(place, hub)
        else:
            stored = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        with torch.device("meta"):
            whole = issubclass(kind, PreTrainedModel)
            empty = kind(config) if whole else kind.from_config(config, trust_remote_code=False)
        check_size(empty, num_numbers(stored), source)
        if weights is not None:  # an Auto class chooses by what lies at the source
            kind = type(empty)
        model, report = kind.from_pretrained(
            place if weights is None else None,
            state_dict=weights,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            trust_remote_code=False,
            **where(place, hub),
            **options,
        )
    own = {name.split(".")[0] for name, _ in model.named_parameters()}
    problems = {
        "missing": report["missing_keys"],
        "unexpected": [
            key
            for key in report["unexpected_keys"]
            if not may_hold_more or key.split(".")[0] in own
        ],
        "of another shape": map(str, report["mismatched_keys"]),
        "unreadable": report.get("error_msgs") or [],
    }
    if problem := described(problems):
        raise CheckpointError(
            f"{source} is not whole ({problem}). Download it again, or check that its config.json "
            f"belongs to it."
        )
    return model
