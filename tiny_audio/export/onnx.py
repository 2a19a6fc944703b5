"""Encoder and projector as one ONNX graph: features of one window → audio embeddings.

The graph has one size, the encoder's longest window, because that is what every runtime can run.
What is shorter is padded with zeros behind its end; `num_steps` says how much of it is sound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.files import held, write_text
from tiny_audio.model.encoder import AudioEncoder
from tiny_audio.model.errors import ConfigError, needing
from tiny_audio.model.features import Features, valid_mask
from tiny_audio.model.modeling import AudioLM

GRAPH, NOTES = "audio.onnx", "audio.json"
OPSET = 18


@dataclass(frozen=True)
class Window:
    """The size of the graph's input: steps of features, and frames that become of them."""

    steps: int
    channels: int  # 0: samples, without a dimension of features


class AudioGraph(nn.Module):
    """The computation of `AudioLM.embed_audio` for one window, without lengths in Python."""

    def __init__(self, model: AudioLM):
        super().__init__()
        self.encoder: AudioEncoder = model.audio_tower
        self.projector = model.projector

    def forward(self, values: Tensor, num_steps: Tensor, num_frames: Tensor) -> Tensor:
        """Compute audio_1PD from features (1, F, M) or samples (1, N) and their lengths (1,)."""
        states = self.encoder.hidden_states(Features(values, num_steps), num_frames)
        frames_1TE = torch.cat(states, dim=-1)
        frames_1TE = frames_1TE * valid_mask(num_frames, frames_1TE.shape[1])[..., None]
        return self.projector.project(frames_1TE, num_frames)


def window_of(model: AudioLM) -> Window:
    """Return the input size of a model's graph.

    Raises `ConfigError` for encoders whose computation depends on a clip's length.
    """
    config = model.config.encoder
    size, keep = config.pool
    if config.max_samples is None or config.group_norm or size != keep:
        raise ConfigError(
            f"The encoder {config.family} cannot be one graph: it has no longest window, or its "
            f"steps depend on a clip's own length. Whisper encoders without pooling can."
        )
    channels = config.hf.num_mel_bins if config.takes_mel else 0
    return Window(config.steps_for(config.max_samples), channels)


def export_onnx(model: AudioLM, folder: Path) -> Path:
    """Write audio.onnx and audio.json into a folder; returns the path of the graph."""
    with needing("Writing ONNX", "onnx"):
        import onnx  # noqa: F401 — torch's exporter needs both
        import onnxscript  # noqa: F401
    window = window_of(model)
    graph = AudioGraph(model).eval()
    shape = (1, window.channels, window.steps) if window.channels else (1, window.steps)
    frames = model.config.encoder.unpooled_frames(window.steps)
    example = (torch.zeros(shape), torch.tensor([window.steps]), torch.tensor([frames]))
    with held(folder), torch.no_grad():
        torch.onnx.export(
            graph,
            example,
            str(folder / GRAPH),
            input_names=["features", "num_steps", "num_frames"],
            output_names=["audio_embeddings"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        write_text(folder / NOTES, json.dumps(notes(model, window), indent=1) + "\n")
    return folder / GRAPH


def notes(model: AudioLM, window: Window) -> dict[str, Any]:
    """Return what a program needs to know beside the graph."""
    config = model.config
    return {
        "steps": window.steps,
        "mel_bins": window.channels,
        "frames": config.encoder.unpooled_frames(window.steps),
        "frames_per_position": config.projector.frames_per_position,
        "width": config.llm_dim,
        "audio_config": config.audio_config,
        "projector_config": config.projector_config,
        "prompt_config": config.prompt_config,
    }


class OnnxAudio:
    """The written graph in onnxruntime, as a stand-in for `AudioLM.embed_audio`."""

    def __init__(self, model: AudioLM, path: Path):
        with needing("Running ONNX", "onnx"):
            import onnxruntime
        self.config, self.window = model.config, window_of(model)
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def embed(self, values: Tensor, num_steps: int) -> Tensor:
        """Compute one clip's audio embeddings (P, D) from its features (…, steps)."""
        frames = self.config.encoder.unpooled_frames(num_steps)
        padded = F.pad(values.float(), (0, self.window.steps - values.shape[-1]))
        inputs = {
            "features": padded[None].numpy(),
            "num_steps": torch.tensor([num_steps]).numpy(),
            "num_frames": torch.tensor([frames]).numpy(),
        }
        (made,) = self.session.run(None, inputs)
        return torch.from_numpy(made)[0, : self.config.projector.positions_for(frames)]

    def __call__(self, features: Features) -> Any:
        """Compute what `AudioLM.embed_audio` computes, clip by clip."""
        from tiny_audio.model.modeling import EncodedAudio

        rows = [
            self.embed(values[..., :steps], steps)
            for values, steps in zip(features.values, features.lengths_B.tolist(), strict=True)
        ]
        lengths_B = torch.tensor([len(row) for row in rows])
        audio_BPD = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        frames = [self.config.encoder.unpooled_frames(n) for n in features.lengths_B.tolist()]
        inside = torch.zeros(len(rows), max(frames), 0)  # the graph does not return its frames
        return EncodedAudio(inside, torch.tensor(frames), audio_BPD, lengths_B)
