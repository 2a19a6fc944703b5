"""Writing nano as package data: a self-contained bfloat16 checkpoint beside the preset's code."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from transformers import WhisperFeatureExtractor

from tiny_audio.model.checkpoint import load
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save
from tiny_audio.presets import NANO

PRESET = NANO
WINDOW_S = 10


def write_preset(model: AudioLM, folder: Path) -> int:
    """Write the model into `folder`, whose other files stay; returns the bytes of its weights."""
    with tempfile.TemporaryDirectory() as temporary:
        saved = save(model, Path(temporary) / "nano", whole=True, dtype=torch.bfloat16)
        front_end = WhisperFeatureExtractor(
            model.config.encoder.hf.num_mel_bins, chunk_length=WINDOW_S
        )
        front_end.save_pretrained(saved / "encoder")
        for path in saved.rglob("*.*"):
            path.chmod(0o644)
        shutil.copytree(saved, folder, dirs_exist_ok=True)
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def read_preset(folder: Path = PRESET) -> AudioLM:
    """Read the packed model in float32, ready to transcribe."""
    return load(folder)
