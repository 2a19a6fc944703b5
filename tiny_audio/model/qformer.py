"""A projector of learned queries, one file for one kind; the others are in `projector.py`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .features import valid_mask
from .projection import Projector, ProjectorConfig


@dataclass(frozen=True, kw_only=True)
class QformerConfig(ProjectorConfig):
    kind: ClassVar[str] = "qformer"
    window: int = 15
    queries: int = 3
    depth: int = 2
    heads: int = 8
    hidden: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden % self.heads:
            raise ConfigError(f"hidden={self.hidden} must be a multiple of heads={self.heads}.")

    @property
    def frames_per_position(self) -> float:
        return self.window / self.queries

    def positions_for(self, num_frames: int) -> int:
        return -(-num_frames // self.window) * self.queries


class QformerProjector(Projector[QformerConfig]):
    """Windowed Q-Former: in every window of frames, a few learned queries look at the frames.

    The windowed form is the one for speech of any length (Granite Speech: 3 queries per 15 frames);
    a fixed number of queries for a whole clip is not.
    """

    last = "linear"

    def __init__(self, config: QformerConfig, encoder_dim: int, decoder_dim: int):
        super().__init__(config, encoder_dim, decoder_dim)
        self.frames_in = nn.Linear(encoder_dim, config.hidden)
        self.queries = nn.Parameter(torch.randn(config.queries, config.hidden) * 0.02)
        self.positions = nn.Parameter(torch.randn(config.window, config.hidden) * 0.02)
        layer = (config.hidden, config.heads, 4 * config.hidden)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                *layer, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.hidden)
        self.linear = nn.Linear(config.hidden, decoder_dim)

    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        window, queries = self.config.window, self.config.queries
        B, T, _ = frames_BTE.shape
        x = F.pad(self.frames_in(frames_BTE), (0, 0, 0, -T % window))
        num_windows = x.shape[1] // window
        x = x.reshape(B * num_windows, window, -1) + self.positions
        padding = ~valid_mask(lengths_B, num_windows * window).reshape(B * num_windows, window)
        # A window of nothing but padding keeps one key: softmax over no key at all is NaN (trap
        # T5).
        padding[:, 0] = False
        q = self.queries.expand(B * num_windows, -1, -1)
        for layer in self.layers:
            q = layer(q, x, memory_key_padding_mask=padding)
        return self.linear(self.norm(q)).reshape(B, num_windows * queries, -1)
