"""Step 5 of the path: frames → audio embeddings, by one of several kinds of projector.

Letters as in `projection.py`, which holds the contract. A new projector is one config, one class
(here, or in a file of its own) and one line in PROJECTORS.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .features import valid_mask
from .projection import FloatRMSNorm, Projector, ProjectorConfig, StackConfig, stack_frames
from .qformer import QformerConfig, QformerProjector


@dataclass(frozen=True, kw_only=True)
class LinearConfig(StackConfig):
    kind: ClassVar[str] = "linear"


class LinearProjector(Projector[LinearConfig]):
    """Stack k frames, one linear layer: the smallest thing that can work."""

    last = "linear"

    def __init__(self, config: LinearConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.linear = nn.Linear(encoder_dim * config.k, decoder_dim)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        return self.linear(stack_frames(frames_BTE, self.config.k))


@dataclass(frozen=True, kw_only=True)
class MlpConfig(StackConfig):
    kind: ClassVar[str] = "mlp"
    hidden: int = 2048


class MlpProjector(Projector[MlpConfig]):
    """Stack k frames, LayerNorm, linear, GELU, linear: the field's standard (SLAM-ASR, Voxtral)."""

    last = "linear_2"

    def __init__(self, config: MlpConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.norm = nn.LayerNorm(encoder_dim * config.k)
        self.linear_1 = nn.Linear(encoder_dim * config.k, config.hidden)
        self.linear_2 = nn.Linear(config.hidden, decoder_dim)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        x = self.norm(stack_frames(frames_BTE, self.config.k))
        return self.linear_2(F.gelu(self.linear_1(x)))


@dataclass(frozen=True, kw_only=True)
class SwigluConfig(StackConfig):
    kind: ClassVar[str] = "swiglu"
    k: int = 5
    hidden: int = 8192


class SwigluProjector(Projector[SwigluConfig]):
    """Stack k frames → RMSNorm → SwiGLU without biases → linear → RMSNorm.

    With (1280, k 5, hidden 8192, 2048) these are 121,643,264 parameters.
    """

    last = "ln_post"

    def __init__(self, config: SwigluConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        stacked = encoder_dim * config.k
        self.ln_pre = FloatRMSNorm(stacked, eps=1e-6)
        self.gate_proj = nn.Linear(stacked, config.hidden, bias=False)
        self.up_proj = nn.Linear(stacked, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, decoder_dim, bias=False)
        self.ln_post = FloatRMSNorm(decoder_dim, eps=1e-6)

    @property
    def k(self) -> int:
        return self.config.k

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        x = self.ln_pre(stack_frames(frames_BTE, self.k))
        return self.ln_post(self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


@dataclass(frozen=True, kw_only=True)
class ConvMlpConfig(ProjectorConfig):
    kind: ClassVar[str] = "conv_mlp"
    hidden: int = 2048

    @property
    def frames_per_position(self) -> float:
        return 4.0

    def positions_for(self, num_frames: int) -> int:
        for _ in range(2):
            num_frames = (num_frames - 1) // 2 + 1
        return num_frames


class ConvMlpProjector(Projector[ConvMlpConfig]):
    """Two stride-2 convolutions (4 × shorter), then linear, GELU, linear."""

    last = "linear_2"

    def __init__(self, config: ConvMlpConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.conv_1 = nn.Conv1d(encoder_dim, encoder_dim, kernel_size=3, stride=2, padding=1)
        self.conv_2 = nn.Conv1d(encoder_dim, encoder_dim, kernel_size=3, stride=2, padding=1)
        self.linear_1 = nn.Linear(encoder_dim, config.hidden)
        self.linear_2 = nn.Linear(config.hidden, decoder_dim)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        x, lengths_B = frames_BTE.transpose(1, 2), lengths_B
        for conv in (self.conv_1, self.conv_2):
            x = F.gelu(conv(x))
            lengths_B = (lengths_B - 1) // 2 + 1
            # The bias makes padding non-zero; it must not reach the next convolution.
            x = x * valid_mask(lengths_B, x.shape[-1])[:, None]
        return self.linear_2(F.gelu(self.linear_1(x.transpose(1, 2))))


@dataclass(frozen=True, kw_only=True)
class BlpConfig(ProjectorConfig):
    kind: ClassVar[str] = "blp"
    expand: int = 2


class BlpProjector(Projector[BlpConfig]):
    """MuFun's connector: linear to `expand` times the width, exact GELU, linear; both with bias.

    With (5120, expand 2, 3584) these are 89,142,784 parameters. Time is pooled by the encoder.
    """

    last = "linear_2"

    def __init__(self, config: BlpConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.linear_1 = nn.Linear(encoder_dim, encoder_dim * config.expand)
        self.linear_2 = nn.Linear(encoder_dim * config.expand, decoder_dim)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(frames_BTE)))


@dataclass(frozen=True, kw_only=True)
class MoeConfig(StackConfig):
    kind: ClassVar[str] = "moe"
    experts: int = 4
    hidden: int = 1024

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration; earlier checkpoints name a loss of balance that was never used."""
        return super().from_dict({k: v for k, v in values.items() if v or k != "balance"})


class MoeProjector(Projector[MoeConfig]):
    """Dense mixture of simple adapters (MOSA, arXiv 2508.18998), weighted by a router."""

    last = "linear_2"

    def __init__(self, config: MoeConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        stacked = encoder_dim * config.k
        self.norm = nn.LayerNorm(stacked)
        self.router = nn.Linear(stacked, config.experts)
        self.linear_1 = nn.Linear(stacked, config.experts * config.hidden)
        self.linear_2 = nn.Linear(config.experts * config.hidden, decoder_dim, bias=False)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        x = self.norm(stack_frames(frames_BTE, self.config.k))
        weights = self.router(x).softmax(-1)
        hidden = F.gelu(self.linear_1(x)).unflatten(-1, (self.config.experts, -1))
        # Summing weighted experts = one matrix over their weighted hidden units laid side by side.
        return self.linear_2((hidden * weights[..., None]).flatten(-2))


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(StackConfig):
    kind: ClassVar[str] = "transformer"
    k: int = 5
    width: int = 512
    depth: int = 2
    heads: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ConfigError(f"width={self.width} must be a multiple of 2 · heads={self.heads}.")


class TransformerLayer(nn.Module):
    """One bidirectional layer: RMSNorm and attention with RoPE, then RMSNorm and SwiGLU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln_attn = FloatRMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.ln_mlp = FloatRMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x_BPW: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        B, P, W = x_BPW.shape
        qkv = self.qkv(self.ln_attn(x_BPW)).view(B, P, 3, self.heads, W // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, rotation), rotate(k, rotation)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x_BPW = x_BPW + self.out(attended.transpose(1, 2).reshape(B, P, W))
        gate, up = self.gate_up(self.ln_mlp(x_BPW)).chunk(2, -1)
        return x_BPW + self.down(F.silu(gate) * up)


class TransformerProjector(Projector[TransformerConfig]):
    """Stack k frames → RMSNorm → linear → bidirectional layers → linear → RMSNorm.

    The layers run at the decoder's own rate, where they cost a fifth of what they would in the
    encoder, and see the sound on both sides, which the decoder, being causal, does not. With (384,
    k 5, width 512, depth 2, 576) these are 6,525,888 parameters.
    """

    last = "ln_post"

    def __init__(self, config: TransformerConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.ln_pre = FloatRMSNorm(encoder_dim * config.k, eps=1e-6)
        self.linear_in = nn.Linear(encoder_dim * config.k, config.width, bias=False)
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads) for _ in range(config.depth)
        )
        self.ln_out = FloatRMSNorm(config.width, eps=1e-6)
        self.linear_out = nn.Linear(config.width, decoder_dim, bias=False)
        self.ln_post = FloatRMSNorm(decoder_dim, eps=1e-6)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        x = self.linear_in(self.ln_pre(stack_frames(frames_BTE, self.config.k)))
        valid_BP = valid_mask(-(-lengths_B // self.config.k), x.shape[1])
        # A clip without frames keeps one key: softmax over no key at all is NaN (trap T5).
        mask = (valid_BP | (torch.arange(x.shape[1], device=x.device) == 0))[:, None, None]
        rotation = rotations(x.shape[1], self.config.width // self.config.heads, x.device)
        for layer in self.layers:
            x = layer(x, rotation, mask)
        return self.ln_post(self.linear_out(self.ln_out(x)))


def rotations(num_positions: int, head_dim: int, device: Any) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (P, head_dim / 2) of rotary positions (arXiv 2104.09864)."""
    frequency = 10_000.0 ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    angle = torch.arange(num_positions, device=device).float()[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + half]) of the last dimension by its position's angle."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig(StackConfig):
    kind: ClassVar[str] = "statistics"
    k: int = 50  # one second of Whisper's or HuBERT's frames


class StatisticsProjector(Projector[StatisticsConfig]):
    """Mean and standard deviation over k frames → standardise → linear → RMSNorm.

    It is for sounds, of which it matters what they hold and hardly in which order: what a linear
    probe reads. `standardise` must see some clips first, or numbers of a wide range drown the rest.
    """

    last = "ln_post"

    def __init__(self, config: StatisticsConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.centre = nn.Parameter(torch.zeros(2 * encoder_dim))
        self.spread = nn.Parameter(torch.ones(2 * encoder_dim))
        self.linear_out = nn.Linear(2 * encoder_dim, decoder_dim, bias=False)
        self.ln_post = FloatRMSNorm(decoder_dim, eps=1e-6)

    def statistics(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Return mean and standard deviation of every k frames (B, P, 2 · E), without padding."""
        k = self.config.k
        stacked_BPKE = stack_frames(frames_BTE.float(), k).unflatten(-1, (k, -1))
        firsts_P = k * torch.arange(stacked_BPKE.shape[1], device=lengths_B.device)
        num_BP1 = (lengths_B[:, None] - firsts_P).clamp(1, k)[..., None]
        mean_BPE = stacked_BPKE.sum(2) / num_BP1
        variance_BPE = stacked_BPKE.square().sum(2) / num_BP1 - mean_BPE.square()
        return torch.cat([mean_BPE, variance_BPE.clamp(min=1e-8).sqrt()], -1)

    @torch.no_grad()
    def standardise(self, clips: Iterable[Tensor]) -> None:
        """Give the statistics of these clips (T, E) mean 0 and standard deviation 1."""
        seen = [self.statistics(c[None], torch.tensor([len(c)]))[0] for c in clips]
        spread, centre = torch.std_mean(torch.cat(seen), dim=0, unbiased=False)
        self.centre.copy_(centre)
        self.spread.copy_(spread + 1e-4)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        alike = (self.statistics(frames_BTE, lengths_B) - self.centre) / self.spread
        return self.ln_post(self.linear_out(alike.to(self.linear_out.weight.dtype)))


PROJECTORS: dict[str, tuple[type[ProjectorConfig], type[Projector]]] = {
    "linear": (LinearConfig, LinearProjector),
    "mlp": (MlpConfig, MlpProjector),
    "swiglu": (SwigluConfig, SwigluProjector),
    "conv_mlp": (ConvMlpConfig, ConvMlpProjector),
    "blp": (BlpConfig, BlpProjector),
    "qformer": (QformerConfig, QformerProjector),
    "moe": (MoeConfig, MoeProjector),
    "transformer": (TransformerConfig, TransformerProjector),
    "statistics": (StatisticsConfig, StatisticsProjector),
}


def projector_config(values: dict[str, Any]) -> ProjectorConfig:
    """Make the typed configuration of a projector from `{"kind": "mlp", "k": 4, …}`."""
    values = dict(values)
    kind = values.pop("kind", None)
    if kind not in PROJECTORS:
        raise ConfigError.unknown(str(kind), PROJECTORS, "The table of projectors")
    return PROJECTORS[kind][0].from_dict(values)


def build_projector(config: ProjectorConfig, encoder_dim: int, decoder_dim: int) -> Projector:
    """Make a freshly initialised projector between two widths."""
    return PROJECTORS[config.kind][1](config, encoder_dim, decoder_dim)
