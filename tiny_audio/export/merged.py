"""Writing a model without adapters: their products are added to the weights of their layers."""

from __future__ import annotations

from pathlib import Path

import torch

from tiny_audio.model.merging import merged, set_module
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save


@torch.no_grad()
def export_merged(model: AudioLM, folder: Path, dtype: torch.dtype | None = None) -> Path:
    """Write a self-contained checkpoint whose `encoder/` and `decoder/` are whole by themselves.

    Every program that reads the Hub's layout reads `decoder/`, which then knows the language of
    the adapters; the model that is given is changed.
    """
    for part in (model.audio_tower.model, model.language_model):
        adapted = {name: m for name, m in part.named_modules() if hasattr(m, "lora_A")}
        for name, layer in adapted.items():
            set_module(part, name, merged(layer))
    model.config.lora_config = model.config.trained = None
    model.base_digests, model.is_merged = None, False
    return save(model, folder, whole=True, dtype=dtype)
