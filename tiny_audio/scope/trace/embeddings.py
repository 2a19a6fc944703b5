"""Three distributions of one file: encoder frames, audio embeddings, the decoder's own words.

Letters: T frames, E encoder width, P audio positions, D decoder width, V vocabulary. All values
leave padding out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from tiny_audio.model.audio import load_audio
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import needing
from tiny_audio.model.features import valid_mask
from tiny_audio.model.modeling import AudioLM

COLOURS = {"frames": "#0072B2", "audio": "#009E73", "words": "#E69F00"}
TITLES = {
    "frames": "encoder frames",
    "audio": "audio embeddings (after the projector)",
    "words": "the decoder's own token embeddings",
}
MOST_ROWS = 2048  # of each side of the energy distance: it compares all pairs
BINS = 80


@dataclass(frozen=True)
class Embeddings:
    """The frames and embeddings of one file, and what the decoder usually reads."""

    frames_TE: Tensor
    audio_PD: Tensor
    words_VD: Tensor

    def stages(self) -> dict[str, Tensor]:
        return {"frames": self.frames_TE, "audio": self.audio_PD, "words": self.words_VD}


@dataclass(frozen=True)
class Distribution:
    """Statistics of a stage's values; `norm` is the median length of its vectors."""

    rows: int
    width: int
    mean: float
    std: float
    low: float
    high: float
    rms: float
    norm: float


@dataclass(frozen=True)
class Gap:
    """The distance of audio embeddings from the decoder's words.

    `norm_ratio`: median length of an audio embedding over that of a word. `nearest_cosine`: mean
    cosine of an audio embedding with its nearest word; `word_cosine` is that of a word with its
    nearest other word. `energy`: normalised energy distance (Székely and Rizzo, 2013), 0 where both
    are the same distribution, 1 where each of them is one point and the two points differ;
    `word_energy` compares one half of the words with the other.
    """

    norm_ratio: float
    nearest_cosine: float
    word_cosine: float
    energy: float
    word_energy: float


@torch.inference_mode()
def embeddings_of(model: AudioLM, source: Any) -> Embeddings:
    """Compute the embeddings of a file of any length, window by window. Raises `AudioError`."""
    samples = load_audio(source).samples
    longest = model.config.encoder.max_samples or len(samples)
    clips = list(samples.to(model.device).split(longest))
    encoded = model.embed_audio(features(model.config.encoder, clips))
    frames = encoded.frames_BTE[valid_mask(encoded.frame_lengths_B, encoded.frames_BTE.shape[1])]
    audio = encoded.audio_BPD[valid_mask(encoded.lengths_B, encoded.audio_BPD.shape[1])]
    table: Any = model.get_input_embeddings()
    return Embeddings(frames.float(), audio.float(), table.weight.detach().float())


def distribution(values: Tensor) -> Distribution:
    """Return statistics of vectors (rows, width)."""
    low, high = values.aminmax()
    return Distribution(
        rows=values.shape[0],
        width=values.shape[1],
        mean=values.mean().item(),
        std=values.std(correction=0).item(),
        low=low.item(),
        high=high.item(),
        rms=values.square().mean().sqrt().item(),
        norm=values.norm(dim=-1).median().item(),
    )


def gap(found: Embeddings) -> Gap:
    """Return distances between audio embeddings and words, the same every time."""
    audio, words = found.audio_PD, found.words_VD
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))
    words = words[order.to(words.device)]
    half = min(MOST_ROWS, len(words) // 2)
    first, second = words[:half], words[half : 2 * half]
    return Gap(
        norm_ratio=(audio.norm(dim=-1).median() / words.norm(dim=-1).median()).item(),
        nearest_cosine=nearest(audio, words).mean().item(),
        word_cosine=nearest(first, words[half:]).mean().item(),
        energy=energy_distance(audio[:MOST_ROWS], words[:MOST_ROWS]),
        word_energy=energy_distance(first, second),
    )


def nearest(queries: Tensor, words: Tensor) -> Tensor:
    """Return the cosine of each query with the word nearest to it, in chunks: V can be 151,936."""
    unit = F.normalize(words, dim=-1)
    return torch.cat([(F.normalize(q, dim=-1) @ unit.T).amax(-1) for q in queries.split(256)])


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return (2 E|x-y| - E|x-x'| - E|y-y'|) / 2 E|x-y| over pairs of vectors."""
    across = torch.cdist(x, y).mean()
    spread = [torch.cdist(v, v).sum() / max(1, len(v) * (len(v) - 1)) for v in (x, y)]
    return (1 - (spread[0] + spread[1]) / (2 * across)).item()


# For people ---------------------------------------------------------------------------------------


def render(found: Embeddings) -> RenderableType:
    """Show both tables: the three distributions, and the distance of audio from words."""
    table = Table("stage", box=SIMPLE_HEAD)
    for heading in ("vectors", "width", "mean", "std", "min", "max", "RMS", "norm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in found.stages().items():
        d = distribution(values)
        numbers = [f"{v:z.3f}" for v in (d.mean, d.std, d.low, d.high, d.rms, d.norm)]
        table.add_row(name, f"{d.rows:,}", f"{d.width:,}", *numbers)
    return Group(table, _gap_table(gap(found)))


def _gap_table(g: Gap) -> Table:
    table = Table("audio against words", box=SIMPLE_HEAD)
    for heading in ("here", "words among themselves"):
        table.add_column(heading, justify="right")
    table.add_row("norm, audio over words", f"{g.norm_ratio:.3f}", "1")
    table.add_row(
        "cosine with the nearest word", f"{g.nearest_cosine:z.3f}", f"{g.word_cosine:z.3f}"
    )
    table.add_row("energy distance, 0 to 1", f"{g.energy:z.3f}", f"{g.word_energy:z.3f}")
    return table


def draw(found: Embeddings, path: Path) -> None:
    """Draw three histograms, the last two on one axis, as they are meant to be compared."""
    with needing("Drawing", "scope"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(15, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[1].sharex(axes[2])
    for axis, (name, values) in zip(axes, found.stages().items(), strict=True):
        counts, edges = histogram(values)
        axis.stairs(counts, edges, fill=True, color=COLOURS[name], alpha=0.7)
        mean = values.mean().item()
        axis.axvline(mean, color="#D55E00", linestyle="--", label=f"mean {mean:z.3f}")
        axis.set(title=TITLES[name], xlabel="value")
        axis.legend()
    axes[0].set_ylabel("share of values")
    figure.savefig(path, dpi=120)


def histogram(values: Tensor) -> tuple[list[float], list[float]]:
    """Return shares and edges of `BINS` bins; a table of 600 million values need not be copied."""
    flat = values.flatten().cpu()
    counts = torch.histc(flat, BINS)
    low, high = (edge.item() for edge in flat.aminmax())
    return (counts / flat.numel()).tolist(), torch.linspace(low, high, BINS + 1).tolist()
