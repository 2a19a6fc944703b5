"""The names that the exercises of earlier texts of the course import, over today's library.

`docs/course/earlier-texts.md` lists each exercise with its script here, and with the numbers that
were wrong. With the import lines and the model's id changed, those exercises run as they were
written: `from tiny_audio.course import ASRModel, ASRConfig, Wav2Vec2FeatureExtractor, librosa`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.checkpoint import AudioLMForConditionalGeneration, checkpoint_folder
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.encoder import AudioEncoder
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import load, shipped


class ASRConfig(AudioLMConfig):
    """`AudioLMConfig`, read from the id of a model: nano, tiny, a folder, or a Hub id."""

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> AudioLMConfig:
        """The configuration of a trained model. No code is loaded with it, whoever asks."""
        folder = checkpoint_folder(shipped(source), **_of_the_hub(options))
        config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
        config.name_or_path = str(folder)  # from here `ASRModel(config)` loads the weights
        return config


class ASRModel(AudioLM):
    """`AudioLM`, made from a configuration that `ASRConfig.from_pretrained` has read."""

    def __new__(cls, *parts: Any, **options: Any) -> Any:
        if len(parts) == 1 and isinstance(parts[0], AudioLMConfig):
            return load(parts[0].name_or_path)
        return super().__new__(cls)

    @classmethod
    def from_pretrained(cls, source: Any, *_: Any, config: Any = None, **options: Any) -> AudioLM:
        """A trained model. No code is loaded with it, whoever asks."""
        folder = checkpoint_folder(shipped(source), **_of_the_hub(options))
        return AudioLMForConditionalGeneration.from_pretrained(
            folder, config=config, trust_remote_code=False
        )


class AutoModel:
    """The encoder of a trained model, as `AutoModel` gives a pretrained one."""

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> AudioEncoder:
        """The encoder of nano, tiny, a checkpoint's folder, or a Hub id."""
        return load(source, **_of_the_hub(options)).encoder


class Wav2Vec2FeatureExtractor:
    """HuBERT's front end: samples of a clip to mean 0 and standard deviation 1."""

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> Any:
        """Return the front end, which is the same for every encoder of waveforms."""
        return transformers.Wav2Vec2FeatureExtractor()


class Librosa:
    """The part of librosa that the exercises use: `load`."""

    @staticmethod
    def load(path: str | Path, sr: int = SAMPLE_RATE) -> tuple[NDArray[np.float32], int]:
        """Samples of a file at 16 kHz, and that rate; other rates are refused."""
        if sr != SAMPLE_RATE:
            raise ConfigError(f"sr={sr}: every encoder here takes {SAMPLE_RATE} Hz; give sr=16000.")
        return load_audio(path).samples.numpy(), SAMPLE_RATE


librosa = Librosa()


def load_dataset(path: str, name: str = "", split: str = "") -> list[dict[str, Any]]:
    """The clips of a manifest on this machine, each decoded as the datasets library would do it.

    `name` and `split` choose among the parts of a Hub's dataset; a manifest has one part.
    """
    manifest = Path(path)
    if not manifest.is_file():
        raise ConfigError(
            f"There is no manifest {path}. Nothing is fetched here: give one on this machine, for "
            f"example samples/manifest.jsonl."
        )
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [row | {"audio": _decoded(manifest.parent / row["audio"])} for row in rows]


def _decoded(path: Path) -> dict[str, Any]:
    audio = load_audio(path)
    samples: NDArray[np.float32] = audio.samples.numpy()
    return {"path": str(path), "array": samples, "sampling_rate": audio.sampling_rate}


def _of_the_hub(options: dict[str, Any]) -> dict[str, Any]:
    """Options that say where a model comes from; the exercises also ask to trust its code."""
    return {key: value for key, value in options.items() if key != "trust_remote_code"}
