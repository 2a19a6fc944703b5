"""The contract of step 5 of the path, frames → audio embeddings, which every projector keeps.

Letters: B clips, T frames, E encoder width, P positions, D decoder width, k frames per position.

`forward(frames_BTE, lengths_B) -> (audio_BPD, lengths_B)`: the lengths are
`ProjectorConfig.positions_for` of the frame counts, frames behind a clip's length have no
influence, and positions behind it are zero.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import StrictConfig
from .errors import ConfigError
from .features import valid_mask


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig(StrictConfig):
    """The base of all projectors' configurations: how many frames become how many positions."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if low := [n for n, v in vars(self).items() if isinstance(v, (int, float)) and v <= 0]:
            raise ConfigError(f"{type(self).__name__}: {', '.join(low)} must be greater than 0.")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **super().to_dict()}

    @property
    def frames_per_position(self) -> float:
        """Return how many frames make one position."""
        return 1.0

    def positions_for(self, num_frames: int) -> int:
        """Return P, the positions of `num_frames`. It is the one owner of this length."""
        return num_frames


@dataclass(frozen=True, kw_only=True)
class StackConfig(ProjectorConfig):
    """The base of projectors that lay `k` neighbouring frames side by side."""

    k: int = 4

    @property
    def frames_per_position(self) -> float:
        return self.k

    def positions_for(self, num_frames: int) -> int:
        return -(-num_frames // self.k)


Config = TypeVar("Config", bound=ProjectorConfig)


class Projector(nn.Module, ABC, Generic[Config]):
    """Turns frames into audio embeddings. Subclasses write `project` and name their `last` layer:
    scaling its parameters scales the audio embeddings. Padding and lengths are done here.
    """

    last: ClassVar[str]

    def __init__(self, config: Config, encoder_dim: int, decoder_dim: int):
        super().__init__()
        self.config = config
        self.encoder_dim = encoder_dim
        self.decoder_dim = decoder_dim

    @overload
    def forward(self, frames_BTE: Tensor) -> Tensor: ...
    @overload
    def forward(self, frames_BTE: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, frames_BTE: Tensor, lengths_B: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Turn frames_BTE and lengths_B into audio_BPD and lengths_B (positions).

        Frames without lengths are one clip's, as `encode` makes them: all are valid, and the
        audio embeddings come back alone.
        """
        if lengths_B is None:
            B, T, _ = frames_BTE.shape
            whole_B = torch.full((B,), T, device=frames_BTE.device)
            return self.project(frames_BTE, whole_B)[:, : self.config.positions_for(T)]
        frames_BTE = frames_BTE * valid_mask(lengths_B, frames_BTE.shape[1])[..., None]
        audio_BPD = self.project(frames_BTE, lengths_B)
        positions = [self.config.positions_for(n) for n in lengths_B.tolist()]
        positions_B = torch.tensor(positions, device=lengths_B.device)
        audio_BPD = audio_BPD[:, : max(positions)]
        return audio_BPD * valid_mask(positions_B, max(positions))[..., None], positions_B

    @abstractmethod
    def project(self, frames_BTE: Tensor, lengths_B: Tensor) -> Tensor:
        """Compute the projection. Padding comes in as zeros; what goes out there is ignored."""

    @torch.no_grad()
    def match_scale(self, frames_BTE: Tensor, lengths_B: Tensor, target_rms: float) -> None:
        """Scale the last layer so that audio embeddings have the decoder's own RMS (trap T27)."""
        audio_BPD, positions_B = self(frames_BTE, lengths_B)
        valid = audio_BPD[valid_mask(positions_B, audio_BPD.shape[1])]
        rms = valid.float().square().mean().sqrt()
        for parameter in self.get_submodule(self.last).parameters():
            parameter.mul_(target_rms / rms)


def stack_frames(frames_BTE: Tensor, k: int) -> Tensor:
    """Lay k neighbours side by side: (B, T, E) → (B, ceil(T / k), k · E), zeros at the end."""
    frames_BTE = F.pad(frames_BTE, (0, 0, 0, -frames_BTE.shape[1] % k))
    B, T, E = frames_BTE.shape
    return frames_BTE.reshape(B, T // k, k * E)


class FloatRMSNorm(nn.RMSNorm):
    """RMSNorm that computes in its weight's dtype, unlike its input's under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))
