"""How `tiny` decodes best: `uv run python -m recipes.tiny.decoding [--model FOLDER]`.

Word error rates of the clips that training watched (held-out readers, unread sentences) by beam
width and weight of the CTC heads; then, for the model's own way, how many of these clips and how
many sounds without speech (ESC-10) count as no speech at each limit of the mean log-probability a
token, and how the CTC heads support what was written.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from recipes.nano.sources import shared_data
from recipes.tiny.clips import Clip, environmental
from recipes.tiny.train import TRAILING_S, watched
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.infer.judging import is_doubted
from tiny_audio.infer.request import KEEP_ALL, Request
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE

WAYS = [(1, 0.0), (4, 0.0), (4, 0.2), (4, 0.3), (4, 0.45), (8, 0.3)]
LIMITS = (-0.8, -1.0, -1.2, -1.5, -1.8, -2.2)
BATCH = 8


class Found(NamedTuple):
    """A segment, and the support of the CTC heads for its text."""

    segment: Segment
    support: float | None


def written(
    transcriber: Transcriber, sounds: Sequence[torch.Tensor], request: Request
) -> list[Found]:
    """Return the segment of every sound, in the given order; batches hold like lengths."""
    order = sorted(range(len(sounds)), key=lambda n: len(sounds[n]))
    found: dict[int, Found] = {}
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        windows = [Window(0, sounds[n]) for n in rows]
        answers = transcriber.write_prompts(windows, *transcriber.encode(windows), request)
        for n, window, answer in zip(rows, windows, answers, strict=True):
            found[n] = Found(transcriber.segment(window, answer, request), answer.support)
    return [found[n] for n in range(len(sounds))]


def padded(clips: Sequence[Clip]) -> list[torch.Tensor]:
    silence = torch.zeros(int(TRAILING_S * SAMPLE_RATE))
    return [torch.cat([torch.from_numpy(clip.samples), silence]) for clip in clips]


def error_rate(clips: Sequence[Clip], found: Sequence[Found]) -> float:
    plain = normalizer()
    texts = [plain(one.segment.text) for one in found]
    return float(word_errors([plain(clip.text) for clip in clips], texts)["wer"])


def by_way(transcriber: Transcriber, sets: dict[str, list[Clip]]) -> Table:
    table = Table("beams", "ctc weight", *sets, title="WER by decoding (whisper-en)")
    for beams, weight in WAYS:
        request = Request(beams=beams, ctc_weight=weight, min_logprob=KEEP_ALL)
        rates = [
            error_rate(clips, written(transcriber, padded(clips), request))
            for clips in sets.values()
        ]
        table.add_row(str(beams), f"{weight:g}", *(f"{rate:.1%}" for rate in rates))
    return table


def by_limit(transcriber: Transcriber, sets: dict[str, list[Clip]]) -> Table:
    """Count clips that are taken for no speech, and words written for sounds without speech."""
    sounds = [torch.from_numpy(samples) for samples in environmental(shared_data() / "esc10")[::4]]
    request = Request(min_logprob=KEEP_ALL)
    noise = written(transcriber, sounds, request)
    speech = {n: written(transcriber, padded(c), request) for n, c in sets.items()}
    minutes = sum(map(len, sounds)) / SAMPLE_RATE / 60
    table = Table("min_logprob", *(f"{n} lost" for n in sets), "false words a minute")
    for limit in LIMITS:
        lost = [sum(is_lost(one, limit) for one in found) for found in speech.values()]
        words = sum(len(one.segment.text.split()) for one in noise if not is_lost(one, limit))
        table.add_row(f"{limit:g}", *map(str, lost), f"{words / minutes:.1f}")
    least = [sorted(supports(found))[:3] for found in speech.values()]
    table.add_row("support", *map(listed, least), listed(sorted(supports(noise))[-3:]))
    return table


def supports(found: Sequence[Found]) -> list[float]:
    """Return the support of the heads for the texts that are not empty."""
    return [one.support for one in found if one.segment.text and one.support is not None]


def listed(supports: Sequence[float]) -> str:
    return ", ".join(f"{support:.1f}" for support in supports) or "no text"


def is_lost(found: Found, limit: float) -> bool:
    """Tell whether a text would count as no speech."""
    return is_doubted(found.segment.mean_logprob, found.support, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", type=int, default=100, help="of each set")
    options = parser.parse_args()
    checkpoint = Path(options.model) if Path(options.model).is_dir() else None
    transcriber = Transcriber.from_pretrained(checkpoint or options.model)
    sets = {name: clips[: options.clips] for name, clips in watched().items()}
    console = Console()
    console.print(by_limit(transcriber, sets))
    console.print(by_way(transcriber, sets))


if __name__ == "__main__":
    main()
