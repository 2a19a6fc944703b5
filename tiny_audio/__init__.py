"""Tiny Audio teaches a language model to hear.

The path of the sound, file by file in `tiny_audio.model`: audio · encoder · projector · prompt ·
decoder · modeling · generation, and `tiny_audio.infer` for text.

Importing this package is cheap: torch is loaded when something of it is first used. Once
transformers is in use, its Auto classes and its speech pipeline know our models.
"""

from importlib import import_module
from typing import Any

from .registration import register_with_transformers

__version__ = "0.1.0"
DEFAULT_MODEL = "tiny"  # of every command and of `Transcriber.from_pretrained`

# Public name → a module that has it; `checkpoint` also makes transformers know our models.
_EXPORTS = {
    "ASRConfig": "course",
    "ASRModel": "course",
    "AudioError": "model.errors",
    "AudioLM": "model.checkpoint",
    "AudioLMConfig": "model.checkpoint",
    "AudioProcessor": "model.checkpoint",
    "CheckpointError": "model.errors",
    "ConfigError": "model.errors",
    "EncoderError": "model.errors",
    "PromptError": "model.errors",
    "TinyAudioError": "model.errors",
    "Transcriber": "infer.transcriber",
    "Transcript": "infer.results",
    "build": "presets",
    "load": "presets",
    "load_audio": "model.audio",
    "save": "model.saving",
}
__all__ = sorted([*_EXPORTS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__


register_with_transformers()
