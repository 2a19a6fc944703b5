"""Comparing projectors: what they cost, and how much time a position of the decoder covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tiny_audio.model.errors import ConfigError
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.model.projector import PROJECTORS, SwigluConfig, build_projector, projector_config

FRAME_MS = 20  # every encoder here makes 50 frames a second
# The course's four, then one of every other kind as it is by default.
COURSE = (
    SwigluConfig(k=5, hidden=8192),
    SwigluConfig(k=5, hidden=4096),
    SwigluConfig(k=8, hidden=8192),
    SwigluConfig(k=2, hidden=8192),
)


@dataclass(frozen=True)
class Comparison:
    """One projector on a clip of `clip_ms`. `positions` counts the zero-padded tail."""

    config: ProjectorConfig
    parameters: int
    clip_ms: float
    num_frames: int
    positions: int

    @property
    def whole(self) -> int:
        """Return the positions that frames fill completely: the course's count, 150 // 8 = 18."""
        return int(self.num_frames // self.config.frames_per_position)

    @property
    def compression(self) -> float:
        return self.num_frames / self.whole

    @property
    def ms_per_position(self) -> float:
        return self.clip_ms / self.whole


def kinds() -> list[ProjectorConfig]:
    """Return the course's four configurations, and every other kind with its own defaults."""
    others = [config() for kind, (config, _) in PROJECTORS.items() if kind != SwigluConfig.kind]
    return [*COURSE, *others]


def compare(
    configs: Sequence[ProjectorConfig], encoder_dim: int, decoder_dim: int, seconds: float
) -> list[Comparison]:
    """Build every projector on `meta` between the two widths, for `seconds` of sound at 50 Hz."""
    clip_ms = 1000 * seconds
    num_frames = int(clip_ms // FRAME_MS)
    return [_compared(config, encoder_dim, decoder_dim, clip_ms, num_frames) for config in configs]


def _compared(
    config: ProjectorConfig, encoder_dim: int, decoder_dim: int, clip_ms: float, num_frames: int
) -> Comparison:
    if num_frames < config.frames_per_position:
        raise ConfigError(
            f"{num_frames} frames do not fill one position of {describe(config)}; compare on more "
            f"seconds, for example --seconds 3."
        )
    with torch.device("meta"):
        projector = build_projector(config, encoder_dim, decoder_dim)
    count = sum(p.numel() for p in projector.parameters())
    return Comparison(config, count, clip_ms, num_frames, config.positions_for(num_frames))


def parse(text: str) -> ProjectorConfig:
    """Make the typed configuration of `kind=swiglu,k=5,hidden=8192`; unknown keys are refused."""
    values: dict[str, str | int | float] = {}
    for item in text.split(","):
        key, found, value = item.partition("=")
        if not found:
            raise ConfigError(f"{text!r} is no projector; write it as kind=swiglu,k=5,hidden=8192.")
        values[key.strip()] = value.strip() if key.strip() == "kind" else _number(key, value)
    return projector_config(values)


def _number(key: str, text: str) -> int | float:
    try:
        return int(text) if text.strip().lstrip("-").isdigit() else float(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text!r} must be a number, for example {key}=5.") from error


def describe(config: ProjectorConfig) -> str:
    """Return a configuration as `swiglu k=5 hidden=8192`."""
    values = {name: value for name, value in vars(config).items() if value is not None}
    return " ".join([config.kind, *(f"{name}={value}" for name, value in values.items())])


def render(rows: Sequence[Comparison], encoder_dim: int, decoder_dim: int) -> Table:
    """Show the comparison as a table."""
    seconds, num_frames = rows[0].clip_ms / 1000, rows[0].num_frames
    table = Table(
        title=f"from {encoder_dim} to {decoder_dim} wide, {seconds:g} s = {num_frames} frames",
        title_justify="left",
        caption="whole: positions filled by frames; positions: with the zero-padded tail, as the "
        "decoder sees them; shorter and ms are those of whole positions.",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("projector")
    for heading in ("parameters", "whole", "positions", "shorter", "ms each"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            describe(row.config),
            f"{row.parameters:,}",
            f"{row.whole}",
            f"{row.positions}",
            f"{row.compression:.1f} ×",
            f"{row.ms_per_position:.1f}",
        )
    return table
