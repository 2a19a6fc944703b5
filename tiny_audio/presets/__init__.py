"""Presets by name, and the two functions that read models from disk.

A preset is one file with one `PRESET`; it says which encoder, projector, decoder and prompt belong
together, and the architectures at true scale, so that parameters and lengths are known before any
download.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_audio.model import checkpoint
from tiny_audio.model.errors import CheckpointError, ConfigError, nearest
from tiny_audio.model.modeling import AudioLM

from .preset import Preset

PRESETS = (
    "nano",
    "tiny",
    "whisper_tiny",
    "hubert_swiglu_qwen3",
    "whisper_swiglu_smollm3",
    "whisper_conv_smollm3",
    "mufun",
    "mufun_10hz",
    "mufun_small",
)
# Trained models in this package, by name.
SHIPPED = {name: Path(__file__).with_name(name) for name in ("nano", "tiny")}
NANO = SHIPPED["nano"]


def preset(name: str) -> Preset:
    """Return the preset of this name; for an unknown one a ConfigError says the nearest."""
    if name not in PRESETS:
        raise ConfigError.unknown(name, PRESETS, "The table of presets")
    found: Preset = import_module(f"{__name__}.{name}").PRESET
    return found


def load(source: str | Path, **options: Any) -> AudioLM:
    """Load a trained model: "tiny" or "nano" (in the package), a folder, or a Hub id. See
    `checkpoint.load`.
    """
    return checkpoint.load(shipped(source), **options)


def shipped(source: str | Path) -> str | Path:
    """Return the folder of a model that the package holds, and every other source as it is.

    Raises `CheckpointError` for a plain name that is neither such a model nor a folder.
    """
    name = str(source)
    if name in SHIPPED:
        return SHIPPED[name]
    if re.fullmatch(r"[\w.+-]+", name) and not Path(name).is_dir():
        raise CheckpointError(_no_model(name))
    return source


def _no_model(name: str) -> str:
    """Say why a plain name is no model, and what to give in its place."""
    trained = " or ".join(SHIPPED)
    if name in PRESETS:
        return (
            f"{name} is a recipe: its projector is not trained yet. Train it with tiny-audio train "
            f"+experiment={name}, or take a trained model: {trained}, a checkpoint folder, or a "
            f"Hub id."
        )
    guess = nearest(name, SHIPPED)
    hint = f"Did you mean {guess!r}? " if guess else ""
    return (
        f"There is no model {name!r}: the package has none of that name, and {Path.cwd()} has no "
        f"such folder. {hint}Give {trained}, a checkpoint folder, or a Hub id."
    )


def build(name: str, *, encoder: str = "", decoder: str = "", **options: Any) -> AudioLM:
    """Build a preset's pretrained parts with a fresh projector. `encoder` and `decoder` (Hub ids or
    folders) exchange a part; widths, lengths, normalisation and mask follow from the new part's own
    config.
    """
    return preset(name).with_sources(encoder, decoder).build(**options)
