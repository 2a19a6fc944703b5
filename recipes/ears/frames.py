"""Frames of all layers of Whisper tiny.en, computed once; layers and rate are chosen later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tiny_audio.data.examples import Example, Sound
from tiny_audio.model.encoder import AudioEncoder, EncoderConfig, load_encoder
from tiny_audio.model.features import average_pool
from tiny_audio.presets.tiny import PRESET as TINY
from tiny_audio.train.frames import FrameCache, cache_in, clip_key

ALL_LAYERS = (0, 1, 2, 3, 4)
KEPT_HZ = 10
FOLDER = Path("runs/ears/frames")
AT_ONCE = 8


def encoder_config(layers: Sequence[int] = ALL_LAYERS, hertz: float = KEPT_HZ) -> EncoderConfig:
    """Return Whisper tiny.en at true length with these hidden states, normalised and averaged."""
    return EncoderConfig(
        architecture=TINY.encoder.architecture,
        source=TINY.encoder.source,
        layers=tuple(layers),
        pool=(round(50 / hertz), 1),
        layer_norm=True,
    )


class FrameStore:
    """Cached frames of all layers; a model takes the layers and the rate that it needs."""

    def __init__(self, encoder: AudioEncoder | None = None, folder: Path = FOLDER) -> None:
        self.encoder = encoder or load_encoder(encoder_config())
        self.cache: FrameCache = cache_in(folder, self.encoder)

    def encode(self, sounds: Iterable[Sound]) -> None:
        """Encode the sounds whose frames are not cached yet."""
        keyed = {clip_key(sound, None, 0): sound for sound in sounds}
        missing = [sound for key, sound in keyed.items() if key not in self.cache]
        for at in range(0, len(missing), AT_ONCE):
            some = missing[at : at + AT_ONCE]
            clips = [torch.from_numpy(sound.samples()) for sound in some]
            with torch.inference_mode():
                frames_BTE, lengths_B = self.encoder(self.encoder.features(clips))
            rows = zip(some, frames_BTE, lengths_B.tolist(), strict=True)
            self.cache.add([(clip_key(sound, None, 0), f[:n]) for sound, f, n in rows])
        self.cache.flush()

    def frames_of(self, example: Example, config: EncoderConfig) -> list[Tensor]:
        """Return the frames (T, E) of each clip, as an encoder with this config makes them."""
        return [self.frames(part.sound, config) for part in example.parts()]

    def frames(self, sound: Sound, config: EncoderConfig) -> Tensor:
        """Return the frames (T, E) of one sound, as an encoder with this config makes them."""
        return chosen(self.cache[clip_key(sound, None, 0)], config)


def chosen(frames_TE: Tensor, config: EncoderConfig) -> Tensor:
    """Return the frames of some layers, averaged to a lower rate."""
    states_TLE = frames_TE.float().unflatten(1, (len(ALL_LAYERS), -1))
    picked_TE = states_TLE[:, list(config.layers)].flatten(1)
    size = config.pool[0] * KEPT_HZ // 50
    return average_pool(picked_TE[None], torch.tensor([len(picked_TE)]), size, 1)[0][0]
