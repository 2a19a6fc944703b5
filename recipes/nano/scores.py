"""Scoring nano on clips of voices and speakers that are not in its training.

Every eighth of them is for watching a run (and for decisions while it goes on); the figures that
are reported come from the others.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from recipes.nano import synth
from recipes.nano.batching import Item
from recipes.nano.shards import open_store
from tiny_audio.evaluate.clips import cut_by_seconds
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.files import write_json, write_text
from tiny_audio.infer.transcriber import AS_WRITTEN, Transcriber, Window
from tiny_audio.model.modeling import AudioLM
from tiny_audio.train.distributed import gather_dealt, rank, world_size

SETS = ("domain", "fsdd", "speechocean762")
WATCHED_SHARE = 8
Part = Literal["watched", "reported"]


class Transcribed(NamedTuple):
    """A clip with its speaker, its text, the text that the model wrote, and how that text ended."""

    speaker: str
    text: str
    hypothesis: str
    outcome: str


Listen = Callable[[list[Item]], list[tuple[str, str]]]  # clips → (text, outcome) of each


def held_out_items(folder: Path, name: str, part: Part) -> tuple[list[Item], Counter[str]]:
    """Return the clips of a set, longest first, and count those that are left out, by reason."""
    clips = open_store(folder / "corpus" / f"{name}-test")
    problems = [synth.length_problem(clip.num_samples) for clip in clips]
    fitting = [clip for clip, problem in zip(clips, problems, strict=True) if not problem]
    chosen = [c for n, c in enumerate(fitting) if (n % WATCHED_SHARE == 0) == (part == "watched")]
    items = [Item((clip,), (0.0,), 0, None) for clip in chosen]
    return sorted(items, key=lambda i: -i.duration_s), Counter(filter(None, problems))


def listening(model: AudioLM, beams: int = 1) -> Listen:
    """Return a function that transcribes with the model as `transcribe` does."""
    transcriber, request = Transcriber(model), replace(AS_WRITTEN, beams=beams)

    def listen(items: list[Item]) -> list[tuple[str, str]]:
        windows = [Window(0, torch.from_numpy(item.samples())) for item in items]
        return [
            (s.text, s.outcome) for s in transcriber.transcribe_windows(windows, request=request)
        ]

    return listen


def listen_to_all(listen: Listen, items: list[Item]) -> list[Transcribed]:
    """Transcribe the items, each process its share; every process returns all results."""

    def transcribed(batch: list[Item]) -> list[Transcribed]:
        answers = zip(batch, listen(batch), strict=True)
        return [Transcribed(item.clips[0].speaker, item.text, *one) for item, one in answers]

    share = cut_by_seconds(items, 60)[rank() :: world_size()]
    return [one for batch in gather_dealt([transcribed(b) for b in share]) for one in batch]


def watch(listen: Listen, folder: Path) -> dict[str, float]:
    """Return the WER on the watched part of every set, and print some of the texts."""
    scores = {}
    for name in SETS:
        clips = listen_to_all(listen, held_out_items(folder, name, "watched")[0])
        scores[f"wer_{name}"] = word_errors([s.text for s in clips], [s.hypothesis for s in clips])[
            "wer"
        ]
        if rank() == 0:
            print("\n".join(f"  {s.text} | {s.hypothesis}" for s in clips[::35]))
    return scores


def report(
    model: AudioLM, folder: Path, output: Path | None, beams: int = 1
) -> dict[str, dict[str, Any]]:
    """Score the reported part of every set; scores and all texts are written into `output`."""
    listen, scores = listening(model, beams), {}
    for name in SETS:
        items, left_out = held_out_items(folder, name, "reported")
        clips = listen_to_all(listen, items)
        groups = {name: clips}
        if name == "domain":
            groups |= domain_groups(clips)
        for group, members in groups.items():
            scores[group] = counts(members)
        scores[name]["left out"] = dict(left_out)
        if output:
            output.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(s._asdict()) for s in clips]
            write_text(output / f"{name}.jsonl", "\n".join(lines) + "\n")
    if output:
        write_json(output / "result.json", scores)
    return scores


ROWS = {  # as README and model card print them
    "domain": "its own domain, unseen synthetic voices, all",
    "domain, unheard espeak variants": "– unseen espeak-ng variants of known accents",
    "domain, unheard espeak accent": "– an unseen espeak-ng accent",
    "domain, flite:rms": "– an unseen flite voice (`rms`)",
    "domain, four words and more": "– sentences of four words and more, none in training",
    "fsdd": "human digits, a held-out FSDD speaker",
    "speechocean762": "open sentences, 25 held-out speechocean762 speakers",
}


def table(scores: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| clips never trained on | clips | words | substituted | deleted | inserted | WER |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in ROWS.items():
        if name in scores:
            one = scores[name]
            keys = ("clips", "words", "substitutions", "deletions", "insertions")
            numbers = " | ".join(f"{one[key]:,}" for key in keys)
            lines.append(f"| {label} | {numbers} | {one['wer']:.1%} |".replace("%", " %"))
    return "\n".join(lines)


def counts(clips: Sequence[Transcribed]) -> dict[str, Any]:
    errors = word_errors([s.text for s in clips], [s.hypothesis for s in clips])
    return {**errors, "outcomes": dict(Counter(s.outcome for s in clips))}


def domain_groups(clips: Sequence[Transcribed]) -> dict[str, list[Transcribed]]:
    """Group clips by the kind of unseen voice; sentences of four words and more are a group too."""
    groups: dict[str, list[Transcribed]] = defaultdict(list)
    for one in clips:
        groups[f"domain, {voice_group(one.speaker)}"].append(one)
        if len(one.text.split()) >= 4:
            groups["domain, four words and more"].append(one)
    return dict(groups)


def voice_group(speaker: str) -> str:
    if synth.HELD_OUT_ACCENT in speaker:
        return "unheard espeak accent"
    return speaker if speaker.startswith("flite") else "unheard espeak variants"
