"""A recipe's model before anything is downloaded: it has the right shapes and no weights.

It is built on `meta`. Every stage begins on it as in training, so the parameters that a stage
trains are read from the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tiny_audio.model.checkpoint import empty
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projector import projector_config
from tiny_audio.presets import NANO, PRESETS, preset, shipped
from tiny_audio.presets.preset import Preset
from tiny_audio.train import stages
from tiny_audio.train.recipe import ModelConfig, Stage


@dataclass(frozen=True)
class PartCount:
    """The number of parameters of one part, adapters included."""

    total: int
    trainable: int


def planned_config(model: ModelConfig) -> AudioLMConfig:
    """Return the configuration of the model that a run begins with, from config.json files."""
    if model.checkpoint:
        folder = Path(shipped(model.checkpoint))
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"There is no {folder}/config.json, and a plan downloads nothing. Give a "
                f"checkpoint folder; a Hub repository's is written by: hf download "
                f"{model.checkpoint} config.json --local-dir FOLDER"
            )
        return AudioLMConfig.from_pretrained(folder, local_files_only=True)
    chosen = exchanged(preset(model.preset), model)
    if model.projector:
        chosen = replace(chosen, projector=projector_config(model.projector))
    return chosen.config()


def exchanged(chosen: Preset, model: ModelConfig) -> Preset:
    """Exchange parts as `Preset.with_sources` does; Hub ids are looked up in the presets."""
    known = [preset(name) for name in PRESETS]
    encoder = str(NANO / "encoder") if model.encoder == "nano" else model.encoder
    decoder = str(NANO / "decoder") if model.decoder == "nano" else model.decoder
    if encoder and not Path(encoder).is_dir():
        table = {other.encoder.source: other.encoder for other in known}
        new, old = table.get(encoder) or _unknown(encoder, table), chosen.encoder
        window = old.window if new.record.full_window else "true_length"
        new = replace(new, window=window, layers=old.layers, pool=old.pool)
        chosen, encoder = replace(chosen, encoder=new), ""
    if decoder and not Path(decoder).is_dir():
        names = {other.decoder.source: other.decoder for other in known}
        chosen = replace(chosen, decoder=names.get(decoder) or _unknown(decoder, names))
        decoder = ""
    return chosen.with_sources(encoder, decoder)


def _unknown(source: str, table: Mapping[str, Any]) -> Any:
    hub = ", ".join(sorted(name for name in table if not Path(name).is_dir()))
    raise ConfigError(
        f"{source} is neither a folder here nor a part of a preset ({hub}), and a plan downloads "
        f"nothing. Get its config.json alone and name that folder: "
        f"hf download {source} config.json --local-dir FOLDER"
    )


def weightless(config: AudioLMConfig, frozen: torch.dtype) -> AudioLM:
    """Make the model on `meta`: pretrained parts in `frozen`, the projector in float32."""
    with torch.device("meta"):
        model = empty(config)
        model.audio_tower.to(frozen)
        model.language_model.to(frozen)
    return model


def begin(model: AudioLM, stage: Stage) -> dict[str, PartCount]:
    """Let a stage begin as training does; return what each part has, and what of it trains."""
    with torch.device("meta"):
        table = stages.begin(model, stage)
    return {part: PartCount(row["total"], row["trainable"]) for part, row in table.items()}
