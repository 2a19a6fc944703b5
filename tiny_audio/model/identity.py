"""How a checkpoint knows what it belongs to: hashes of its frozen parts, and golden vectors.

Golden vectors are what every stage of the path made of one fixed second of sound when the model was
saved. Hashes find another encoder, decoder, tokenizer or prompt; golden vectors also find another
computation.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .audio import SAMPLE_RATE
from .config import fingerprint
from .encoder import features
from .errors import CheckpointError
from .modeling import AudioLM
from .prompt import prompt_identity, render, transcription_turns

# Largest relative difference of a golden vector, by the coarser of the two dtypes.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


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


def base_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a part as it was before adapters were put on it."""
    state = module.state_dict().items()
    return {k.replace(".base_layer.", "."): v for k, v in state if "lora_" not in k}


def weights_hash(module: nn.Module, left_out: set[str]) -> str:
    """SHA-256 over names, shapes and bfloat16 values: the same in whatever dtype it was loaded."""
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
                f"{folder}: {stage} differ from what was saved by {error:.1e} (tolerance "
                f"{tolerance:g}). The weights or the code that computes them changed."
            )


def as_dtype(dtype: Any) -> torch.dtype:
    """transformers' ways to name a dtype; "auto" and None are float32."""
    if isinstance(dtype, torch.dtype):
        return dtype
    return torch.float32 if dtype in (None, "auto") else getattr(torch, str(dtype).split(".")[-1])
