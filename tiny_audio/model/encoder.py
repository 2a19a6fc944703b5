"""Step 4 of the path: features → frames; and all that sets one family of encoders apart.

Letters: B clips, N samples, F mel bins, M mel steps, T frames, E width. A clip here is one window
of sound; longer audio is cut into windows before it comes to the encoder.

Every encoder is a pretrained transformers model, wrapped so that three things hold for all of them:
the number of frames is exactly `EncoderConfig.frames_for(num_samples)`; a clip gives the same
frames alone and in a padded batch; and a frozen encoder stays frozen (no dropout, LayerDrop or
SpecAugment after `model.train()`).
"""

import functools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .audio import SAMPLE_RATE
from .bounds import check_numbers
from .config import StrictConfig
from .errors import ConfigError, EncoderError
from .features import (
    HOP_SAMPLES,
    MIN_SAMPLES,
    Convolution,
    Features,
    average_pool,
    in_groups,
    mel_row,
    valid_mask,
    waveform_row,
)
from .hub import read_part


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(StrictConfig):
    """The configuration of an encoder, pure arithmetic, and which of its frames go on.

    `architecture` is the encoder's own transformers config as a dict: widths, lengths,
    normalisation and mask all follow from it. `source` (see `sources.py`) says where the weights
    come from.
    """

    architecture: dict[str, Any]
    source: str = ""
    # "full": pad to the pretrained window (30 s for Whisper) and keep the valid frames, as Whisper
    # was trained; "true_length": compute only what is there. The two differ, so training and use
    # must agree.
    window: Literal["full", "true_length"] = "true_length"
    # Hidden states to concatenate; 0 is the input of the first layer, -1 the encoder's own output.
    layers: tuple[int, ...] = (-1,)
    # Average `pool[0]` frames into `pool[1]`: (5, 1) is 50 Hz → 10 Hz, (5, 2) is 50 Hz → 20 Hz.
    pool: tuple[int, int] = (1, 1)
    # Give every frame of every kept state zero mean and unit variance (a layer norm without
    # weights): states of several layers differ in scale by more than ten.
    layer_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self.architecture, "The encoder's config.json")
        if self.family not in ENCODERS:
            raise ConfigError.unknown(self.family, ENCODERS, "The table of audio encoders")
        if not 1 <= self.pool[1] <= self.pool[0]:
            raise ConfigError(f"pool={self.pool} must average more frames into fewer, e.g. (5, 2).")
        depth = self.hf.num_hidden_layers
        if not self.layers:
            raise ConfigError(f"layers is empty; take -1 (the output) or some of 0…{depth}.")
        if bad := [n for n in self.layers if not -1 <= n <= depth]:
            raise ConfigError(f"layers={bad}: this encoder has hidden states 0…{depth} (or -1).")
        if self.window == "full" and not self.record.full_window:
            raise ConfigError(f"window='full' is Whisper's; {self.family} takes 'true_length'.")
        if self.architecture.get("conv_pos_batch_norm"):
            raise ConfigError("conv_pos_batch_norm leaks padding into frames; not supported.")

    @functools.cached_property
    def hf(self) -> PreTrainedConfig:
        """Return the encoder's own config object."""
        values = dict(self.architecture)
        return AutoConfig.for_model(values.pop("model_type"), **values)

    @property
    def family(self) -> str:
        return str(self.architecture.get("model_type"))

    @property
    def record(self) -> "EncoderFamily":
        """Return what sets this family apart."""
        return ENCODERS[self.family]

    @property
    def takes_mel(self) -> bool:
        """Tell whether the encoder takes log-mel features, or else samples."""
        return self.record.input_name == "input_features"

    @property
    def stride(self) -> int:
        """Return the samples from one frame to the next, before pooling."""
        strides = (convolution.stride for convolution in self.record.convolutions(self.hf))
        return self.record.hop * math.prod(strides)

    @property
    def width(self) -> int:
        """Return E, the width of frames (hidden states are concatenated)."""
        return int(self.hf.hidden_size) * len(self.layers)

    @property
    def group_norm(self) -> bool:
        """Tell whether the first convolution normalises over the clip, as *base* models do."""
        return in_groups(self.hf)

    @property
    def max_samples(self) -> int | None:
        """Return the longest window in samples; None where the encoder has no limit."""
        positions = self.record.most_positions(self.hf)
        return None if positions is None else positions * self.stride

    def steps_for(self, num_samples: int) -> int:
        """Return the feature steps (mel columns or samples) of a clip; refuse a long one."""
        if num_samples < 1:
            raise EncoderError("A clip of 0 samples has no frames; give at least one sample.")
        if self.max_samples is not None and num_samples > self.max_samples:
            raise EncoderError(
                f"{num_samples} samples ({num_samples / SAMPLE_RATE:.2f} s) exceed the encoder's "
                f"window of {self.max_samples / SAMPLE_RATE:g} s; cut the audio into windows, or "
                f"set long_audio='windows' in the prompt's configuration."
            )
        samples = max(num_samples, MIN_SAMPLES)
        return samples // self.record.hop

    def frames_for(self, num_samples: int) -> int:
        """Return T, the frames of a clip at 16 kHz. It is the one owner of this length."""
        return self.pooled(self.unpooled_frames(self.steps_for(num_samples)))

    def unpooled_frames(self, steps: int) -> int:
        """Return the frames that feature steps become; every convolution rounds down."""
        for kernel, stride, padding in self.record.convolutions(self.hf):
            steps = (steps + 2 * padding - kernel) // stride + 1
        return steps

    def pooled(self, frames: int) -> int:
        """Return the frames left after pooling; the last, incomplete group counts."""
        return -(-frames * self.pool[1] // self.pool[0])


class AudioEncoder(nn.Module, ABC):
    """A pretrained encoder behind one contract: `features(clips)`, then `forward(features)`."""

    # The one parameter of the stock model that stays as it is when everything trains.
    constant: ClassVar[str]

    def __init__(self, config: EncoderConfig, model: nn.Module):
        super().__init__()
        self.config = config
        self.model = model
        self.frozen = False

    def features(self, clips: Sequence[Tensor]) -> Features:
        """Compute padded features, with true lengths, from clips (samples_N each, 16 kHz mono)."""
        return features(self.config, clips)

    @overload
    def forward(self, features: Features) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, features: None = None, **batch: Tensor) -> BaseModelOutput: ...
    def forward(
        self, features: Features | None = None, **batch: Tensor
    ) -> tuple[Tensor, Tensor] | BaseModelOutput:
        """Compute frames_BTE and lengths_B; frames behind a clip's length are zero.

        Called as transformers' encoders are, `encoder(**inputs)` with `input_values` (samples) or
        `input_features` (log-mel), it gives an output with `last_hidden_state`, the frames.
        """
        if features is not None:
            return self.frames(features)
        frames_BTE, _ = self.frames(self._features_of(batch))
        return BaseModelOutput(last_hidden_state=frames_BTE)

    def _features_of(self, batch: dict[str, Tensor]) -> Features:
        """Read a batch of transformers' front ends; samples become what this encoder takes."""
        mask, mel = batch.pop("attention_mask", None), self.config.takes_mel
        taken = ("input_values", "input_features") if mel else ("input_values",)
        if len(batch) != 1 or not set(batch) <= set(taken):
            raise EncoderError(
                f"The encoder got {', '.join(batch) or 'nothing'}; give {' or '.join(taken)}."
            )
        ((name, values),) = batch.items()
        longest = values.shape[-1]
        lengths = [longest] * len(values) if mask is None else mask.sum(-1).tolist()
        if name == "input_values" and mel:
            return self.features([row[:n] for row, n in zip(values, lengths, strict=True)])
        return Features(values, torch.tensor(lengths, device=values.device))

    def frames(self, features: Features) -> tuple[Tensor, Tensor]:
        """Compute frames_BTE and lengths_B, and check that the lengths are the promised ones."""
        steps, longest = features.values.shape[-1], int(features.lengths_B.max())
        if longest > steps:
            raise EncoderError(
                f"The features have {steps} steps but a length of {longest}; the two do not belong "
                f"together. Take both from features(clips)."
            )
        lengths = [self.config.unpooled_frames(n) for n in features.lengths_B.tolist()]
        lengths_B = torch.tensor(lengths, device=features.values.device)
        trained = any(p.requires_grad for p in self.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            states = self.hidden_states(features, lengths_B)
            if self.config.layer_norm:
                states = [F.layer_norm(state.float(), state.shape[-1:]) for state in states]
            frames_BTE = torch.cat(states, dim=-1)
        promised = self.config.unpooled_frames(steps)
        if frames_BTE.shape[1] != promised:
            raise EncoderError(
                f"{self.config.family} made {frames_BTE.shape[1]} frames where its config says "
                f"{promised}; the checkpoint and its config.json do not belong together."
            )
        frames_BTE = frames_BTE[:, : max(lengths)]
        frames_BTE = frames_BTE * valid_mask(lengths_B, max(lengths))[..., None]
        return average_pool(frames_BTE, lengths_B, *self.config.pool)

    @abstractmethod
    def hidden_states(self, features: Features, lengths_B: Tensor) -> list[Tensor]:
        """Return the hidden states named by `config.layers`, each (B, T, width)."""

    def freeze(self, frozen: bool = True) -> None:
        """Switch off gradients and stay in evaluation mode, also after `model.train()`."""
        self.frozen = frozen
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not frozen and name != self.constant)
        self.train(self.training)

    def train(self, mode: bool = True) -> "AudioEncoder":
        super().train(mode and not self.frozen)
        return self


class WhisperFrames(AudioEncoder):
    """The Whisper family: the stock module wants exactly 30 s and ignores its mask."""

    constant = "embed_positions.weight"  # sinusoids; transformers does not train them either

    def hidden_states(self, features: Features, lengths_B: Tensor) -> list[Tensor]:
        model: Any = self.model
        x = features.values.to(model.conv1.weight.dtype)
        x = F.gelu(model.conv1(x))
        # With a full window Whisper attends to its padding, as it was trained. At true length, what
        # the first convolution writes behind a clip's end must not reach the second.
        full = self.config.window == "full"
        if not full:
            x = x * valid_mask(features.lengths_B, x.shape[-1])[:, None]
        x = F.gelu(model.conv2(x)).transpose(1, 2)
        x = x + model.embed_positions.weight[: x.shape[1]]
        mask = None if full else valid_mask(lengths_B, x.shape[1])
        attention = create_bidirectional_mask(model.config, inputs_embeds=x, attention_mask=mask)
        wanted = resolve(self.config.layers, len(model.layers))
        kept = {0: x} if 0 in wanted else {}
        for number, layer in enumerate(model.layers, start=1):
            x = layer(x, attention)
            if number in wanted:
                kept[number] = x
        kept[len(model.layers)] = model.layer_norm(x)
        return [kept[n] for n in wanted]


class WaveformFrames(AudioEncoder):
    """HuBERT, wav2vec 2.0 and WavLM: convolutions over the waveform, then a transformer."""

    constant = "masked_spec_embed"  # SpecAugment's, which is not used: it never gets a gradient

    def __init__(self, config: EncoderConfig, model: nn.Module):
        super().__init__(config, model)
        # A layer that LayerDrop leaves out has no hidden state to take, and no gradient.
        cast(Any, model).config.layerdrop = 0.0

    def hidden_states(self, features: Features, lengths_B: Tensor) -> list[Tensor]:
        model: Any = self.model
        x = self._convolve(features, lengths_B)
        projected = model.feature_projection(x.transpose(1, 2))
        x = projected[0] if isinstance(projected, tuple) else projected
        mask = valid_mask(lengths_B, x.shape[1])
        layers = model.encoder.layers
        wanted = resolve(self.config.layers, len(layers))
        kept: dict[int, Tensor] = {}
        hooks = [
            layers[n].register_forward_pre_hook(_keep(kept, n), with_kwargs=True)
            for n in wanted
            if n < len(layers)
        ]
        try:
            kept[len(layers)] = model.encoder(x, attention_mask=mask).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return [kept[n] for n in wanted]

    def _convolve(self, features: Features, lengths_B: Tensor) -> Tensor:
        """Run the convolutions, (B, C, T), clip by clip where group norm would see padding."""
        model: Any = self.model
        dtype = model.feature_extractor.conv_layers[0].conv.weight.dtype
        values = features.values.to(dtype)
        if not self.config.group_norm:
            return model.feature_extractor(values)
        clips = zip(values, features.lengths_B.tolist(), strict=True)
        rows = [model.feature_extractor(clip[None, :n])[0] for clip, n in clips]
        longest = int(lengths_B.max())
        return torch.stack([F.pad(row, (0, longest - row.shape[-1])) for row in rows])


def features(config: EncoderConfig, clips: Sequence[Tensor]) -> Features:
    """Compute features from samples, clip by clip, so that a batch changes nothing."""
    if not clips:
        raise EncoderError("No clips given; pass a list with at least one 1-D tensor of samples.")
    if bad := [tuple(clip.shape) for clip in clips if clip.dim() != 1]:
        raise EncoderError(f"Clips of shape {bad} given; each must be 1-D: one channel, no batch.")
    lengths = [config.steps_for(len(clip)) for clip in clips]
    padded = [F.pad(clip, (0, max(0, MIN_SAMPLES - len(clip)))) for clip in clips]
    whole = (config.max_samples or 0) if config.window == "full" else 0
    rows = [config.record.row(clip, config.hf, whole) for clip in padded]
    longest = max(row.shape[-1] for row in rows)
    values = torch.stack([F.pad(row, (0, longest - row.shape[-1])) for row in rows])
    return Features(values, torch.tensor(lengths, device=values.device))


def resolve(layers: Sequence[int], depth: int) -> list[int]:
    """Return hidden-state numbers with -1 spelled out."""
    return [depth if n == -1 else n for n in layers]


def _keep(kept: dict[int, Tensor], number: int) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept[number] = args[0] if args else kwargs["hidden_states"]

    return hook


# Families -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EncoderFamily:
    """All that sets one family of encoders apart; functions of `hf` take its transformers config.

    `frames` makes frames of features. `row(samples_N, hf, whole)` makes features of one clip that
    has `MIN_SAMPLES` at least, padded to `whole` samples where the window is full. A feature step
    is `hop` samples, and `convolutions` turn steps into frames, of which the encoder knows
    `most_positions`. On the Hub the names of weights begin with `hub_prefix`, and `model` reads
    them where transformers' `AutoModel` would read more.
    """

    frames: type[AudioEncoder]
    input_name: Literal["input_features", "input_values"]  # transformers' name for the features
    row: Callable[[Tensor, Any, int], Tensor]
    convolutions: Callable[[Any], Sequence[Convolution]]
    hop: int = 1
    most_positions: Callable[[Any], int | None] = lambda hf: None
    full_window: bool = False  # whether it was trained on clips padded to the longest window
    hub_prefix: str = ""
    model: type[nn.Module] | None = None


WHISPER = EncoderFamily(
    frames=WhisperFrames,
    input_name="input_features",
    row=mel_row,
    convolutions=lambda hf: (Convolution(3, 1, 1), Convolution(3, 2, 1)),
    hop=HOP_SAMPLES,
    most_positions=lambda hf: int(hf.max_source_positions),
    full_window=True,
    hub_prefix="model.encoder.",
    model=WhisperEncoder,
)
WAVEFORM = EncoderFamily(
    frames=WaveformFrames,
    input_name="input_values",
    row=waveform_row,
    convolutions=lambda hf: [
        Convolution(*one) for one in zip(hf.conv_kernel, hf.conv_stride, strict=True)
    ],
)
# model_type of the encoder's own config → its family. A new one is one record here.
ENCODERS: dict[str, EncoderFamily] = {
    "whisper": WHISPER,
    "hubert": WAVEFORM,
    "wav2vec2": WAVEFORM,
    "wavlm": WAVEFORM,
}


def empty_encoder(config: EncoderConfig) -> AudioEncoder:
    """Make the encoder with fresh weights, or without any under `torch.device("meta")`."""
    record, hf = config.record, config.hf
    kind: Any = record.model
    model = kind(hf) if kind else AutoModel.from_config(hf, trust_remote_code=False)
    return record.frames(config, model)


def load_encoder(
    config: EncoderConfig, dtype: torch.dtype = torch.float32, **hub: Any
) -> AudioEncoder:
    """Load the whole pretrained encoder; a missing or unknown weight is a `CheckpointError`."""
    record = config.record
    # Without the mapping transformers would start from random weights and only log it.
    mapping = {f"^{re.escape(record.hub_prefix)}": ""} if record.hub_prefix else None
    model = read_part(
        record.model or AutoModel,
        config.source,
        config.hf,
        dtype,
        hub,
        key_mapping=mapping,
        may_hold_more=True,
    )
    return record.frames(config, model)
