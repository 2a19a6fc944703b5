"""Hashes of a checkpoint's frozen parts, and golden vectors that show it is loaded with them.

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
from .encoder import AudioEncoder
from .errors import CheckpointError
from .hub import quantisation_of
from .modeling import AudioLM
from .prepare import lay_out
from .prompt import prompt_identity, transcription_turns
from .sources import inside

# Largest relative difference of a golden vector, by the coarser of the two dtypes.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def identity(model: AudioLM, trained: Iterable[str]) -> dict[str, str]:
    """Return hashes of all that a checkpoint relies on but does not hold."""
    return {
        "encoder": weights_hash(model.audio_tower.model, _under("audio_tower.model.", trained)),
        "decoder": weights_hash(model.language_model, _under("language_model.", trained)),
        "tokenizer": tokenizer_hash(model.tokenizer),
        "prompt": prompt_identity(model.config.prompt, model.tokenizer),
    }


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a hash of all that turns text into ids, without padding and cutting."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return fingerprint({k: v for k, v in state.items() if k not in ("padding", "truncation")})


def _under(prefix: str, names: Iterable[str]) -> set[str]:
    return {base_name(name).removeprefix(prefix) for name in names if name.startswith(prefix)}


def base_name(name: str) -> str:
    """Return a weight's name as it is without adapters on its layer."""
    return name.replace(".base_layer.", ".")


def base_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a part as it was before adapters were put on it.

    Read from the modules themselves: under FSDP2 `state_dict` gives shards, even of weights that
    are gathered.
    """
    state: dict[str, Tensor] = {}
    for at, one in module.named_modules(remove_duplicate=False):
        lasting = {
            n: b for n, b in one._buffers.items() if n not in one._non_persistent_buffers_set
        }
        for name, tensor in {**one._parameters, **lasting}.items():
            if tensor is not None:
                state[f"{at}.{name}" if at else name] = tensor.detach()
    return {base_name(k): v for k, v in state.items() if "lora_" not in k}


def weights_hash(module: nn.Module, left_out: set[str]) -> str:
    """Return a hash of names, shapes and bfloat16 values, the same in any dtype."""
    kept = {name: d for name, d in digests(module).items() if name not in left_out}
    return fingerprint(kept)


def encoder_key(encoder: AudioEncoder) -> dict[str, Any]:
    """Return what frames depend on besides the sound: weights, adapters, configuration."""
    config = encoder.config.to_dict()
    # Where the weights lie, which version wrote their config.json and whether it spells out what
    # is usual, do not matter.
    del config["source"]
    if not config["layer_norm"]:  # as before there was a choice: what was made then still belongs
        del config["layer_norm"]
    unusual = encoder.config.hf.to_diff_dict()
    notes = ("_name_or_path", "transformers_version", "architectures", "dtype")
    config["architecture"] = {k: v for k, v in unusual.items() if k not in notes}
    key = {"weights": weights_hash(encoder.model, set()), "config": fingerprint(config)}
    adapters = {n: p for n, p in encoder.model.state_dict().items() if "lora_" in n}
    return {**key, "adapters": fingerprint(tensor_digests(adapters))} if adapters else key


def digests(module: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of every base weight's shape and bfloat16 values, by name."""
    return tensor_digests(base_state(module))


def tensor_digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return the SHA-256 of every tensor's shape and bfloat16 values, by name."""
    found = {}
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16)
        digest = hashlib.sha256(f"{tuple(tensor.shape)}".encode())
        digest.update(values.numpy().tobytes())
        found[name] = digest.hexdigest()
    return found


def base_digests(model: AudioLM) -> dict[str, str]:
    """Return digests of all base weights of encoder and decoder, by their names in the model."""
    parts = {"audio_tower.model.": model.audio_tower.model, "language_model.": model.language_model}
    return {f"{at}{name}": d for at, part in parts.items() for name, d in digests(part).items()}


def record_fresh(model: AudioLM) -> None:
    """Record the hash of the freshly made projector in the configuration."""
    model.config.fresh_projector = weights_hash(model.projector, set())


def is_trained(model: AudioLM) -> bool | None:
    """Tell whether the projector has changed since it was made; None if nobody recorded it."""
    fresh = model.config.fresh_projector
    return None if fresh is None else weights_hash(model.projector, set()) != fresh


def check_identity(model: AudioLM, folder: Path) -> None:
    stored = model.config.identity or {}
    found = identity(model, model.config.trained or [])
    # bfloat16 of float16 is not always that of the original.
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        found = {part: found[part] for part in ("tokenizer", "prompt")}
    if changed := [part for part in found if stored.get(part) != found[part]]:
        raise CheckpointError(
            f"{folder} was trained with another {' and '.join(changed)} than is there now"
            f"{_otherwise_quantised(model, folder) if 'decoder' in changed else ''}; "
            f"restore the original (sources: {model.config.encoder.source}, "
            f"{model.config.language_model.source}) or train again."
        )


def _otherwise_quantised(model: AudioLM, folder: Path) -> str:
    """Say how the decoder's quantisation differs from the recorded one; "" if it does not."""
    decoder = model.config.language_model
    now = quantisation_of(inside(decoder.source, folder))
    if now == decoder.quantisation:
        return ""
    before = decoder.quantisation or "no quantisation"
    return f" (its quantisation differs: {before} in training, {now or 'none'} now)"


def probe(device: Any = "cpu") -> Tensor:
    """Return one fixed second at 16 kHz: a chirp from 100 Hz to 4 kHz with a slow tremble."""
    t = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    chirp = torch.sin(2 * torch.pi * (100 * t + 1950 * t**2)) * torch.sin(2 * torch.pi * 3 * t)
    return (0.3 * chirp).float().to(device)


@torch.no_grad()
def golden(model: AudioLM) -> dict[str, Tensor]:
    """Compute every stage of the probe in float32."""
    was_training = model.training
    model.eval()
    turns = transcription_turns(model.config.prompt)
    prompts = lay_out([turns], [[probe(model.device)]], model.tokenizer, model.config)
    made: Any = prompts.audio
    audio = model.embed_audio(made)
    embeds_BLD = model.embed_prompts(prompts.ids_BL.to(model.device), audio.embedded)
    logits = model(inputs_embeds=embeds_BLD).logits[:, -1]
    model.train(was_training)
    stages = {
        "features": made.values,
        "frames": audio.frames_BTE,
        "audio": audio.audio_BPD,
        "logits": logits,
    }
    return {name: tensor.float().cpu().contiguous() for name, tensor in stages.items()}


def check_golden(model: AudioLM, folder: Path) -> None:
    """Replay the probe and compare every stage with what was stored."""
    with safe_open(folder / "golden.safetensors", "pt") as file:
        saved_in = as_dtype((file.metadata() or {}).get("dtype"))
        kept = {stage: file.get_tensor(stage) for stage in file.keys()}  # noqa: SIM118
    tolerance = max(TOLERANCE[coarsest(model)], TOLERANCE[saved_in])
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


def coarsest(model: AudioLM) -> torch.dtype:
    """Return the dtype that decides how exactly the model computes; parts may differ."""
    return max((p.dtype for p in model.parameters()), key=lambda dtype: TOLERANCE[dtype])


def as_dtype(dtype: Any) -> torch.dtype:
    """Translate transformers' ways to name a dtype; "auto" and None are float32."""
    if isinstance(dtype, torch.dtype):
        return dtype
    return torch.float32 if dtype in (None, "auto") else getattr(torch, str(dtype).split(".")[-1])
