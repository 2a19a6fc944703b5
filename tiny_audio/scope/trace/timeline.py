"""Placing every step of the path in the audio, on one time axis in seconds.

A step is drawn around the centre of what it was computed from. Whisper's mel column i looks at
400 samples around sample 160 i, and its frame t at the columns around 2 t; frame t of a waveform
encoder looks at the 400 samples from 320 t on, so its centre is 200 samples further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.features import HOP_SAMPLES
from tiny_audio.model.qformer import QformerConfig


@dataclass(frozen=True)
class Track:
    """One stage of the path along the audio: step s holds `values_SC[s]` from start to end.

    Only steps that come from the audio are in here. The model also computed steps of padding, up
    to `padded_to_s`; they are in no value and no statistic.
    """

    name: str
    symbol: str
    values_SC: Tensor
    start_s: Tensor  # (S,)
    end_s: Tensor  # (S,)
    padded_to_s: float

    @property
    def rms(self) -> float:
        """Return the root mean square of all values."""
        return self.values_SC.square().mean().sqrt().item()


@dataclass(frozen=True)
class Span:
    """A window of the audio, in samples, which the encoder takes by itself."""

    start: int
    num_samples: int

    @property
    def end(self) -> int:
        return self.start + self.num_samples

    def track(
        self, name: str, symbol: str, values_SC: Tensor, edges: Tensor, padded_to: float
    ) -> Track:
        """Return a track whose step s lasts from `edges[s]` to `edges[s + 1]`, within the window.

        Edges and `padded_to` are samples of the window; float64 until seconds come out.
        """
        edges_s = (self.start + edges.double().clamp(0, self.num_samples)) / SAMPLE_RATE
        padded_to_s = (self.start + max(padded_to, self.num_samples)) / SAMPLE_RATE
        values = values_SC.detach().float().cpu()
        return Track(name, symbol, values, edges_s[:-1], edges_s[1:], padded_to_s)


@dataclass(frozen=True)
class Clock:
    """The steps of one model, in samples."""

    config: AudioLMConfig

    @property
    def encoder(self) -> EncoderConfig:
        return self.config.encoder

    @property
    def window(self) -> int:
        """Return how far a full window is padded; 0 where nothing is."""
        return (self.encoder.max_samples or 0) if self.encoder.window == "full" else 0

    @property
    def frame(self) -> tuple[float, float]:
        """Return a frame's step, after pooling, and where the first frame begins."""
        record = self.encoder.record
        field, step = 1, 1  # in feature steps
        for kernel, stride, padding in record.convolutions(self.encoder.hf):
            field, step = field + (kernel - 1 - 2 * padding) * step, step * stride
        if record.hop > 1:  # a mel step lies around its sample
            field -= 1
        step = self.encoder.stride
        offset = (field * record.hop - step) // 2
        size, keep = self.encoder.pool
        return step * size / keep, offset

    def mel(self, span: Span, values_MF: Tensor) -> Track:
        """Return a track of columns of 10 ms."""
        edges = HOP_SAMPLES * (torch.arange(len(values_MF) + 1) - 0.5)
        return span.track("log-mel", "features_BFM", values_MF, edges, self.window)

    def frames(self, span: Span, values_TE: Tensor) -> Track:
        """Return a track of frames as they leave the encoder."""
        edges = self._samples(torch.arange(len(values_TE) + 1), len(values_TE))
        return span.track("frames", "frames_BTE", values_TE, edges, self.window)

    def stage(
        self, span: Span, name: str, symbol: str, values_SC: Tensor, num_frames: int
    ) -> Track:
        """Return a track of any tensor inside the projector, with as many steps as frames or fewer.

        Its last step may need frames behind the last one, which are zeros: they are padding.
        """
        step, offset = self.frame
        edges = self._frame_edges(len(values_SC), num_frames)
        padded_to = offset + step * edges[-1].item()
        edges = self._samples(edges.clamp(max=num_frames), num_frames)
        return span.track(name, symbol, values_SC, edges, padded_to)

    def _samples(self, edges: Tensor, num_frames: int) -> Tensor:
        """Turn places between frames into samples. The first and the last frame see a little more
        than a step (40 samples for HuBERT), where no other frame does.
        """
        step, offset = self.frame
        margin = max(offset, 0)
        at = offset + step * edges.double()
        return at - margin * (edges == 0) + margin * (edges == num_frames)

    def _frame_edges(self, num_steps: int, num_frames: int) -> Tensor:
        """Return between which frames the steps lie, (S + 1,)."""
        config, steps = self.config.projector, torch.arange(num_steps + 1)
        if num_steps == num_frames:
            return steps
        if isinstance(config, QformerConfig):
            # Every query sees its whole window; in order they share what there is of it.
            at, query = steps // config.queries * config.window, steps % config.queries
            return at + (num_frames - at).clamp(0, config.window) * query / config.queries
        if num_steps == config.positions_for(num_frames):
            return steps * config.frames_per_position
        # Between the two: a convolution that is not the last one.
        return steps * next(n for n in range(1, num_frames) if -(-num_frames // n) == num_steps)


def joined(tracks: Sequence[Track]) -> Track:
    """Join the same stage of consecutive windows, on one axis."""
    return replace(
        tracks[-1],
        values_SC=torch.cat([track.values_SC for track in tracks]),
        start_s=torch.cat([track.start_s for track in tracks]),
        end_s=torch.cat([track.end_s for track in tracks]),
    )
