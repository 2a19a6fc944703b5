"""A model on disk. Only `build`, `save` and `load` touch it.

    config.json           configuration of every part, names of what was trained, hashes of the rest
    trained.safetensors   what was trained: the projector, LoRA adapters, unfrozen weights
    golden.safetensors    what every stage made of one fixed second of sound when it was saved
    encoder/ decoder/     the frozen parts in the Hub's layout, in a self-contained folder only

A checkpoint that is not whole, or that meets another encoder, decoder, tokenizer or prompt than it was
trained with, does not load.
"""

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)

from .audio import SAMPLE_RATE
from .config import fingerprint
from .configuration import AudioLMConfig
from .decoder import DecoderConfig, empty_decoder, load_decoder, load_tokenizer
from .encoder import EncoderConfig, empty_encoder, features, load_encoder
from .errors import CheckpointError
from .modeling import AudioLM
from .processing import AudioProcessor
from .projector import ProjectorConfig, build_projector
from .prompt import (
    PromptConfig,
    audio_token_id,
    prompt_identity,
    render,
    resolved,
    transcription_turns,
)

# Sources that begin like this are folders inside the checkpoint.
INSIDE = "./"
# What a download from the Hub may be told, and which files it fetches.
HUB = ("revision", "token", "local_files_only")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
# Largest relative difference of a golden vector, by the coarser of the two dtypes.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


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

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """A self-contained folder."""
        save(self, folder, whole=True)


class PretrainedAudioProcessor(AudioProcessor):
    """`AudioProcessor` that `AutoProcessor` can read from a checkpoint; it needs no weights."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: Any, **kwargs: Any
    ) -> "PretrainedAudioProcessor":
        hub = {key: kwargs[key] for key in HUB if kwargs.get(key) is not None}
        folder = checkpoint_folder(source, **hub)
        config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
        return cls(load_tokenizer(inside(config.language_model.source, folder)), config)

    def save_pretrained(self, folder: Any, **_: Any) -> None:  # type: ignore[override]
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
        audio_token_id=audio_token_id(tokenizer),
    )
    model = assemble(config, load_encoder(encoder, dtype), load_decoder(decoder, dtype), tokenizer)
    model = model.to(device).eval()
    scale_projector(model)
    return model


def empty(config: AudioLMConfig) -> AudioLM:
    """The same model with fresh weights; under `torch.device("meta")` none at all, to count them."""
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
    target = model.get_input_embeddings().weight.float().square().mean().sqrt().item()
    model.projector.match_scale(frames_BTE.float(), lengths_B, target)


# Save ---------------------------------------------------------------------------------------------


def save(
    model: AudioLM, folder: str | Path, *, whole: bool = False, dtype: torch.dtype | None = None
) -> Path:
    """Write a checkpoint, atomically: `folder` is either the old one or the whole new one.

    Without `whole` it holds the trained part and says by hash what it belongs to; with it, everything.
    `dtype` stores weights smaller (bfloat16); hashes and golden vectors are then those of what is stored.
    """
    if dtype is not None:
        model = copy.deepcopy(model)
        # Parameters only: `.to` would also round buffers, which no file holds (RoPE's frequencies).
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).to(parameter.dtype)
    folder = Path(folder)
    unknown = [
        n for n in ("audio", "decoder") if not getattr(model.config, f"{n}_config")["source"]
    ]
    if unknown and not whole:
        raise CheckpointError(
            f"The model does not say where its {' and '.join(unknown)} weights come from; "
            f"save it with whole=True, or set `source` in their configurations."
        )
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
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is. Renaming is atomic; the old one goes away only afterwards."""
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
    """The projector, LoRA adapters, and base weights that train (unless their folder is written too)."""
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
    """One pretrained part as its own Hub folder: config.json and model.safetensors, without adapters."""
    folder.mkdir(parents=True)
    module.config.save_pretrained(folder)
    weights, seen = {}, set()
    for name, tensor in base_state(module).items():
        # Tied weights are one tensor under two names; safetensors takes it once (trap T33).
        if tensor.data_ptr() not in seen:
            weights[name] = tensor.cpu().contiguous()
            seen.add(tensor.data_ptr())
    save_file(stored(weights, dtype), folder / "model.safetensors", {"format": "pt"})


def base_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a part as it was before adapters were put on it."""
    state = module.state_dict().items()
    return {k.replace(".base_layer.", "."): v for k, v in state if "lora_" not in k}


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

    `dtype` is that of the frozen parts; what was trained is float32. `check=False` skips the hashes and
    golden vectors (seconds for billions of parameters), never the completeness of keys. `hub`
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
        folder = Path(snapshot_download(str(source), allow_patterns=HUB_FILES, **hub))
    for name in ("config.json", "trained.safetensors", "golden.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{source} has no {name}, so it is not a whole checkpoint.")
    return folder


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
        # What trains is fp32, whatever it was stored in: a bf16 weight of 1 cannot move by 1e-3 (T25).
        parameters[name].data = tensor.float()
        parameters[name].requires_grad_(True)


# Identity and golden vectors ------------------------------------------------------------------------


def identity(model: AudioLM, trained: Iterable[str]) -> dict[str, str]:
    """Hashes of all that a checkpoint relies on but does not hold."""
    return {
        "encoder": weights_hash(model.audio_tower.model, _under("audio_tower.model.", trained)),
        "decoder": weights_hash(model.language_model, _under("language_model.", trained)),
        "tokenizer": fingerprint(json.loads(model.tokenizer.backend_tokenizer.to_str())),
        "prompt": prompt_identity(model.config.prompt, model.tokenizer),
    }


def _under(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def weights_hash(module: nn.Module, left_out: set[str]) -> str:
    """SHA-256 over names, shapes and bfloat16 values: the same in whatever dtype a part was loaded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(base_state(module).items()):
        if name not in left_out:
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            values = tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def check_identity(model: AudioLM, folder: Path) -> None:
    stored = model.config.identity or {}
    found = identity(model, model.config.trained or [])
    if model.dtype == torch.float16:  # bfloat16 of float16 is not always that of the original
        found = {part: found[part] for part in ("tokenizer", "prompt")}
    if changed := [part for part in found if stored.get(part) != found[part]]:
        raise CheckpointError(
            f"{folder} was trained with another {' and '.join(changed)} than is there now; "
            f"restore the original (sources: {model.config.encoder.source}, "
            f"{model.config.language_model.source}) or train again."
        )


def probe(device: Any = "cpu") -> Tensor:
    """One fixed second at 16 kHz: a chirp from 100 Hz to 4 kHz with a slow tremble."""
    t = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    chirp = torch.sin(2 * torch.pi * (100 * t + 1950 * t**2)) * torch.sin(2 * torch.pi * 3 * t)
    return (0.3 * chirp).float().to(device)


@torch.no_grad()
def golden(model: AudioLM) -> dict[str, Tensor]:
    """What every stage makes of the probe, float32."""
    was_training = model.training
    model.eval()
    clip = probe(model.device)
    heard = features(model.config.encoder, [clip])
    audio = model.embed_audio(heard)
    turns = transcription_turns(model.config.prompt)
    prompt = render(turns, audio.lengths_B.tolist(), model.tokenizer, model.config.prompt)
    ids = torch.tensor([prompt.ids], device=model.device)
    logits = model(inputs_embeds=model.fuse(ids, audio.audio_BPD, audio.lengths_B)).logits[:, -1]
    model.train(was_training)
    stages = {
        "features": heard.values,
        "frames": audio.frames_BTE,
        "audio": audio.audio_BPD,
        "logits": logits,
    }
    return {name: tensor.float().cpu().contiguous() for name, tensor in stages.items()}


def check_golden(model: AudioLM, folder: Path) -> None:
    """Replay the probe and compare every stage with what was stored."""
    with safe_open(folder / "golden.safetensors", "pt") as file:
        saved_in = as_dtype(file.metadata()["dtype"])
        kept = {stage: file.get_tensor(stage) for stage in file.keys()}  # noqa: SIM118
    tolerance = max(TOLERANCE[model.dtype], TOLERANCE[saved_in])
    for stage, found in golden(model).items():
        if stage not in kept or kept[stage].shape != found.shape:
            raise CheckpointError(
                f"{folder}: golden vector {stage!r} is missing or has another shape."
            )
        error = ((kept[stage] - found).norm() / kept[stage].norm()).item()
        if not error <= tolerance:
            raise CheckpointError(
                f"{folder}: {stage} differ from what was saved by {error:.1e} (tolerance {tolerance:g}). "
                f"The weights or the code that computes them changed."
            )


def as_dtype(dtype: Any) -> torch.dtype:
    """transformers' ways to name a dtype; "auto" and None are float32."""
    if isinstance(dtype, torch.dtype):
        return dtype
    return torch.float32 if dtype in (None, "auto") else getattr(torch, str(dtype).split(".")[-1])


# After `import tiny_audio`, transformers' Auto classes read our checkpoints.
AutoConfig.register("tiny_audio", AudioLMConfig, exist_ok=True)
for auto in (AutoModel, AutoModelForSpeechSeq2Seq, AutoModelForMultimodalLM):
    auto.register(AudioLMConfig, AudioLMForConditionalGeneration, exist_ok=True)
AutoProcessor.register(AudioLMConfig, PretrainedAudioProcessor, exist_ok=True)
