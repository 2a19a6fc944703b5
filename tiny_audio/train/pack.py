"""nano as package data: a self-contained checkpoint in bfloat16, beside the preset's own code."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperFeatureExtractor

from tiny_audio.model.checkpoint import load, save
from tiny_audio.model.modeling import AudioLM

PRESET = Path(__file__).resolve().parents[1] / "presets" / "nano"
WINDOW_S = 10


def write_preset(model: AudioLM, folder: Path) -> int:
    """Write the model into `folder`, whose other files stay; returns the bytes of its weights."""
    with tempfile.TemporaryDirectory() as temporary:
        saved = save(model, Path(temporary) / "nano", whole=True, dtype=torch.bfloat16)
        to_hub_layout(saved / "encoder", model.config.encoder.hf.num_mel_bins)
        for path in saved.rglob("*.*"):
            path.chmod(0o644)
        shutil.copytree(saved, folder, dirs_exist_ok=True)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def to_hub_layout(folder: Path, num_mel_bins: int) -> None:
    """A Whisper encoder as on the Hub: keys `model.encoder.*`, and its front end's settings."""
    path = folder / "model.safetensors"
    weights = {f"model.encoder.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    WhisperFeatureExtractor(feature_size=num_mel_bins, chunk_length=WINDOW_S).save_pretrained(
        folder
    )


def read_preset(folder: Path = PRESET) -> AudioLM:
    """The packed model in float32, ready to transcribe."""
    return load(folder)
