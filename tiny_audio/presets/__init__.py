"""Complete recipes by name, and the two functions that read models from disk.

A preset is one file with one `PRESET`; it says which encoder, projector, decoder and prompt belong
together, and the architectures at true scale, so that parameters and lengths are known before any
download.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_audio.model import checkpoint
from tiny_audio.model.errors import ConfigError
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
)
# Trained models in this package, by name.
SHIPPED = {name: Path(__file__).with_name(name) for name in ("nano", "tiny")}
NANO = SHIPPED["nano"]


def preset(name: str) -> Preset:
    """The preset of this name; an unknown name is a ConfigError that says the nearest one."""
    if name not in PRESETS:
        raise ConfigError.unknown(name, PRESETS, "The table of presets")
    found: Preset = import_module(f"{__name__}.{name}").PRESET
    return found


def load(source: str | Path, **options: Any) -> AudioLM:
    """A trained model: "tiny" or "nano" (in the package), a folder, or a Hub id. See
    `checkpoint.load`.
    """
    return checkpoint.load(shipped(source), **options)


def shipped(source: str | Path) -> str | Path:
    """The folder of a model that the package holds; every other source as it is."""
    return SHIPPED.get(str(source), source)


def build(name: str, *, encoder: str = "", decoder: str = "", **options: Any) -> AudioLM:
    """A preset's pretrained parts with a fresh projector. `encoder` and `decoder` (Hub ids or
    folders) exchange a part; widths, lengths, normalisation and mask follow from the new part's own
    config.
    """
    return preset(name).with_sources(encoder, decoder).build(**options)
