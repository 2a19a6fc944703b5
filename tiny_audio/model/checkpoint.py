"""A model on disk. Only `build`, `save` and `load` touch it.

    config.json           configuration of every part, names of what was trained, hashes of the rest
    trained.safetensors   what was trained: the projector, LoRA adapters, unfrozen weights
    golden.safetensors    what every stage made of one fixed second of sound when it was saved
    encoder/ decoder/     the frozen parts in the Hub's layout, in a self-contained folder only

A checkpoint that is not whole, or that meets another encoder, decoder, tokenizer or prompt than it
was trained with, does not load.
"""

import copy
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)

from .configuration import AudioLMConfig
from .decoder import DecoderConfig, empty_decoder, load_decoder, load_tokenizer
from .encoder import EncoderConfig, empty_encoder, features, load_encoder
from .errors import CheckpointError
from .identity import as_dtype, base_state, check_golden, check_identity, golden, identity, probe
from .modeling import AudioLM
from .processing import AudioProcessor
from .projector import ProjectorConfig, build_projector
from .prompt import PromptConfig, resolved

# Sources that begin like this are folders inside the checkpoint.
INSIDE = "./"
# What a download from the Hub may be told, and which files it fetches.
HUB = ("revision", "token", "local_files_only")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


class AudioLMForConditionalGeneration(AudioLM):
    """`AudioLM` under the name, and with the two methods, that transformers' Auto classes call."""

    @classmethod
    def from_pretrained(
        cls, source: Any, *_: Any, config: Any = None, dtype: Any = None, **kwargs: Any
    ) -> "AudioLM":
        """`load`, for callers that speak transformers; what it cannot honour is refused."""
        # The Auto classes always add these; no remote code runs here, trusted or not.
        ignored = {"trust_remote_code", "_from_auto", "adapter_kwargs"}
        kwargs = {k: v for k, v in kwargs.items() if v is not None and k not in ignored}
        device = kwargs.pop("device_map", "cpu")
        hub = {key: kwargs.pop(key) for key in HUB if key in kwargs}
        if kwargs:
            raise TypeError(f"AudioLM.from_pretrained does not take {', '.join(sorted(kwargs))}.")
        return load(source, dtype=as_dtype(dtype), device=str(device), **hub)

    def save_pretrained(self, folder: Any, **options: Any) -> None:
        """A self-contained folder."""
        if options:
            raise TypeError(f"AudioLM.save_pretrained does not take {', '.join(sorted(options))}.")
        save(self, folder, whole=True)


class PretrainedAudioProcessor(AudioProcessor):
    """`AudioProcessor` that `AutoProcessor` can read from a checkpoint; it needs no weights."""

    @classmethod
    def from_pretrained(cls, source: Any, **kwargs: Any) -> "PretrainedAudioProcessor":
        hub = {key: kwargs[key] for key in HUB if kwargs.get(key) is not None}
        folder = checkpoint_folder(source, **hub)
        config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
        return cls(load_tokenizer(inside(config.language_model.source, folder)), config)

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """Nothing to write: the checkpoint's config.json and tokenizer are all there is."""


def build(
    encoder: EncoderConfig,
    projector: ProjectorConfig,
    decoder: DecoderConfig,
    prompt: PromptConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> AudioLM:
    """Pretrained encoder and decoder from their sources, with a fresh projector between them."""
    tokenizer = load_tokenizer(decoder.source)
    config = AudioLMConfig(
        audio_config=encoder.to_dict(),
        projector_config=projector.to_dict(),
        decoder_config=decoder.to_dict(),
        prompt_config=resolved(prompt or PromptConfig(), tokenizer).to_dict(),
    )
    model = assemble(config, load_encoder(encoder, dtype), load_decoder(decoder, dtype), tokenizer)
    model = model.to(device).eval()
    scale_projector(model)
    return model


def empty(config: AudioLMConfig) -> AudioLM:
    """The same model with fresh weights; under `torch.device("meta")` none, to be counted."""
    return assemble(config, empty_encoder(config.encoder), empty_decoder(config.language_model))


def assemble(
    config: AudioLMConfig, encoder: Any, decoder: Any, tokenizer: Any = None
) -> AudioLMForConditionalGeneration:
    width = decoder.get_input_embeddings().embedding_dim
    projector = build_projector(config.projector, config.encoder.width, width)
    return AudioLMForConditionalGeneration(
        encoder, projector, decoder, tokenizer=tokenizer, config=config
    )


@torch.no_grad()
def scale_projector(model: AudioLM) -> None:
    """Give fresh audio embeddings the scale of the decoder's own (RMS over the table, trap T27)."""
    frames_BTE, lengths_B = model.audio_tower(features(model.config.encoder, [probe(model.device)]))
    table: Any = model.get_input_embeddings()
    target = table.weight.float().square().mean().sqrt().item()
    model.projector.match_scale(frames_BTE.float(), lengths_B, target)


# Save ---------------------------------------------------------------------------------------------


def save(
    model: AudioLM, folder: str | Path, *, whole: bool = False, dtype: torch.dtype | None = None
) -> Path:
    """Write a checkpoint, atomically: `folder` is either the old one or the whole new one.

    Without `whole` it holds the trained part and says by hash what it belongs to; with it,
    everything. A model whose parts have no source of their own (loaded from a self-contained
    folder, or handed in) is always written whole. `dtype` stores weights smaller (bfloat16);
    hashes and golden vectors are then those of what is stored.
    """
    if dtype is not None:
        model = copy.deepcopy(model)
        # Parameters only: `.to` would also round buffers, which no file holds (RoPE's frequencies).
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).to(parameter.dtype)
    folder = Path(folder)
    # A part that came out of a checkpoint's folder, or by hand, is nowhere else to be read from.
    sources = (model.config.encoder.source, model.config.language_model.source)
    whole = whole or any(not source or source.startswith(INSIDE) for source in sources)
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} exists and is not a checkpoint; choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(model, fresh, whole, dtype)
        _swap(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _write(model: AudioLM, folder: Path, whole: bool, dtype: torch.dtype | None) -> None:
    trained = trained_part(model, whole)
    config = AudioLMConfig.from_dict(model.config.to_dict())
    config.prompt_config = resolved(config.prompt, model.tokenizer).to_dict()
    if whole:
        config.audio_config = {**(config.audio_config or {}), "source": f"{INSIDE}encoder"}
        config.decoder_config = {**(config.decoder_config or {}), "source": f"{INSIDE}decoder"}
        write_part(model.audio_tower.model, folder / "encoder", dtype)
        write_part(model.language_model, folder / "decoder", dtype)
        model.tokenizer.save_pretrained(folder / "decoder")
    config.trained = sorted(trained)
    config.identity = identity(model, trained)
    config.architectures = ["AudioLMForConditionalGeneration"]
    save_file(stored(trained, dtype), folder / "trained.safetensors")
    save_file(golden(model), folder / "golden.safetensors", {"dtype": str(model.dtype)})
    config.save_pretrained(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes files that only their owner may read
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is: two renames, so a kill between them leaves the old one whole
    beside it, under a hidden name that ends in `.old`.
    """
    fresh.chmod(0o755)
    old = fresh.with_name(f"{fresh.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def trained_part(model: AudioLM, whole: bool) -> dict[str, Tensor]:
    """The projector, LoRA adapters, and base weights that train (with `whole` in their folder)."""
    chosen = {}
    for name, parameter in model.named_parameters():
        own = name.startswith("projector.") or "lora_" in name
        if own or (parameter.requires_grad and not whole):
            chosen[name] = parameter.detach().cpu().contiguous()
    return chosen


def stored(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    if dtype is None:
        return state
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}


def write_part(module: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """One pretrained part as its own Hub folder, without adapters: config.json and weights."""
    folder.mkdir(parents=True)
    module.config.save_pretrained(folder)
    weights, seen = {}, set()
    for name, tensor in base_state(module).items():
        # Tied weights are one tensor under two names; safetensors takes it once (trap T33).
        if tensor.data_ptr() not in seen:
            weights[name] = tensor.cpu().contiguous()
            seen.add(tensor.data_ptr())
    save_file(stored(weights, dtype), folder / "model.safetensors", {"format": "pt"})


# Load ---------------------------------------------------------------------------------------------


def load(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    check: bool = True,
    **hub: Any,
) -> AudioLM:
    """Read a checkpoint from a folder or a Hub id, whole or not at all.

    `dtype` is that of the frozen parts; what was trained is float32. `check=False` skips the hashes
    and golden vectors (seconds for billions of parameters), never the completeness of keys. `hub`
    (revision, token, local_files_only) goes to the download.
    """
    folder = checkpoint_folder(source, **hub)
    try:
        model = _read(folder, dtype).to(device).eval()
        if check:
            check_identity(model, folder)
            check_golden(model, folder)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{source} cannot be read ({error}). A file of it, or of the encoder or decoder it "
            f"names, is damaged or missing; copy or download it again."
        ) from error
    return model


def _read(folder: Path, dtype: torch.dtype) -> AudioLM:
    config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
    encoder, decoder = config.encoder, config.language_model
    model = assemble(
        config,
        load_encoder(replace(encoder, source=inside(encoder.source, folder)), dtype),
        load_decoder(replace(decoder, source=inside(decoder.source, folder)), dtype),
        load_tokenizer(inside(decoder.source, folder)),
    )
    overlay(model, load_file(folder / "trained.safetensors"), folder)
    return model


def checkpoint_folder(source: str | Path, **hub: Any) -> Path:
    """A local folder as it is; anything else is a Hub id."""
    folder = Path(source)
    if not folder.is_dir():
        if folder.is_absolute() or str(source).startswith(".") or str(source).count("/") != 1:
            raise CheckpointError(f"There is no checkpoint folder {source}; check the path.")
        folder = download(str(source), **hub)
    for name in ("config.json", "trained.safetensors", "golden.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{source} has no {name}, so it is not a whole checkpoint.")
    return folder


def download(hub_id: str, **hub: Any) -> Path:
    """A Hub repository's folder in the local cache."""
    try:
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, **hub))
    except (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{hub_id} is neither a folder here nor could it be read from the Hub ({error}). "
            f"Check the name and the connection, or download it first."
        ) from error


def inside(source: str, folder: Path) -> str:
    return str(folder / source) if source.startswith(INSIDE) else source


@torch.no_grad()
def overlay(model: AudioLM, trained: dict[str, Tensor], folder: Path) -> None:
    """Put the trained part into the model; every key must be there, and none may be left over."""
    parameters = dict(model.named_parameters())
    recorded = set(model.config.trained or [])
    due = {n for n in parameters if n.startswith("projector.") or "lora_" in n} | recorded
    missing, unexpected = sorted(due - set(trained)), sorted(set(trained) - due)
    wrong = [n for n in trained if n in parameters and trained[n].shape != parameters[n].shape]
    unexpected += sorted(due - set(parameters) - set(missing))
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if any(problems.values()):
        said = "; ".join(
            f"{what}: {', '.join(keys[:5])}" for what, keys in problems.items() if keys
        )
        raise CheckpointError(f"{folder}/trained.safetensors is not whole ({said}).")
    for name, tensor in trained.items():
        # What trains is fp32, whatever it was stored in: a bf16 weight of 1 cannot move by 1e-3
        # (T25).
        parameters[name].data = tensor.float()
        parameters[name].requires_grad_(True)


# After `import tiny_audio`, transformers' Auto classes read our checkpoints.
AutoConfig.register("tiny_audio", AudioLMConfig, exist_ok=True)
for auto in (AutoModel, AutoModelForSpeechSeq2Seq, AutoModelForMultimodalLM):
    auto.register(AudioLMConfig, AudioLMForConditionalGeneration, exist_ok=True)
AutoProcessor.register(AudioLMConfig, PretrainedAudioProcessor, exist_ok=True)
