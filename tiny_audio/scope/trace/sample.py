"""Showing one training sample, token by token: prompt, labels, and the effect of the sound.

Letters: L prompt length, S supervised tokens, V vocabulary. The sample goes through the collator
and the loss of training, so what is shown is what is trained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor

from tiny_audio.data.examples import Example, Limits, SourceConfig, judged
from tiny_audio.data.manifest import Unusable
from tiny_audio.data.mixture import Visit
from tiny_audio.data.rows import Row, manifest_rows
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import rendered
from tiny_audio.model.prompt import IGNORED, Prompt
from tiny_audio.train.batch import Collator
from tiny_audio.train.task import Listening


@dataclass(frozen=True)
class Target:
    """A supervised token at `place` of the prompt, and its loss after each sound (natural log)."""

    place: int
    id: int
    token: str
    own: float
    silent: float
    other: float | None = None  # None: the manifest has no other clip


@dataclass(frozen=True)
class Sample:
    """One line of a manifest as training sees it."""

    example: Example
    num_samples: int
    prompt: Prompt
    tokens: list[str]
    targets: list[Target]
    other: str | None  # the manifest's line of the other clip

    def mean(self, sound: str) -> float:
        """Return the mean loss over supervised tokens after "own", "silent" or "other" sound."""
        return sum(getattr(t, sound) for t in self.targets) / len(self.targets)


def parse_place(text: str) -> tuple[Path, int]:
    """Return the manifest and the line, from 1, of `samples/manifest.jsonl:3`."""
    found = re.fullmatch(r"(.+):([1-9][0-9]*)", text)
    if not found:
        raise ConfigError(f"{text!r} names no line; write MANIFEST:LINE, e.g. manifest.jsonl:1.")
    path = Path(found[1])
    if not path.is_file():
        raise ConfigError(f"There is no manifest {str(path)!r}; give a .jsonl, .csv or .tsv file.")
    return path, int(found[2])


def inspect(model: AudioLM, manifest: Path, line: int) -> Sample:
    """Return the sample of a line, with the next usable clip of the manifest as the wrong sound."""
    rows = list(manifest_rows(manifest, "audio", "text"))
    places = [row.where for row in rows]
    wanted = f"{manifest}:{line}"
    if wanted not in places:
        last = places[-1].rpartition(":")[2] if places else "none"
        raise ConfigError(
            f"{manifest} has nothing in line {line}; its last clip is in line {last}."
        )
    at = places.index(wanted)
    example = usable(rows[at], manifest)
    if isinstance(example, Unusable):
        raise ConfigError(f"{wanted} cannot be used: {example}.")
    after = (usable(row, manifest) for row in [*rows[at + 1 :], *rows[:at]])
    other = next((found for found in after if isinstance(found, Example)), None)
    return listen(model, example, other)


def usable(row: Row, manifest: Path) -> Example | Unusable:
    """Return the row's example, judged as training judges it."""
    source = SourceConfig(path=str(manifest))
    verdict = judged(row, name="inspect", config=source, limits=Limits())
    return verdict if isinstance(verdict, Unusable) else verdict[0]


@torch.inference_mode()
def listen(model: AudioLM, example: Example, other: Example | None) -> Sample:
    """Return losses after the clip itself, after silence as long, and after another clip."""
    collator = Collator(model.eval())
    own = collator.audio_of(Visit(example, 0, 0))
    asked = [collator.answered(Visit(example, 0, 0))]
    (prompt,) = rendered(asked, [[own]], model.tokenizer, model.config)
    places = [place for place, label in enumerate(prompt.labels) if label != IGNORED]
    sounds = [own, own * 0, *([collator.audio_of(Visit(other, 0, 0))] if other else [])]
    losses = [losses_of(model, sound, example) for sound in sounds]
    tokens = [spelled(model, number) for number in prompt.ids]
    targets = [
        Target(place, prompt.ids[place], tokens[place], *values)
        for place, *values in zip(places, *losses, strict=True)
    ]
    where = other.where if other else None
    return Sample(example, len(own), prompt, tokens, targets, where)


def losses_of(model: AudioLM, samples_N: Tensor, example: Example) -> list[float]:
    """Return the cross-entropy of every supervised token of the answer after this sound."""
    task = Listening(model)
    batch = Collator(model).collate([samples_N], [Visit(example, 0, 0)]).to(model.device)
    hidden_SD, targets_S = task.answers(task.embed(batch), batch.mask_BL, batch.labels_BL)
    logits_SV = model.get_output_embeddings()(hidden_SD).float()
    return torch.nn.functional.cross_entropy(logits_SV, targets_S, reduction="none").tolist()


def spelled(model: AudioLM, number: int) -> str:
    """Return a token as text, with its white space visible."""
    return repr(model.tokenizer.decode([number]))[1:-1]


# For people ---------------------------------------------------------------------------------------

SILENT, AUDIO, LEARNT = "dim", "cyan", "green"  # no label, audio slot, label


def render(sample: Sample) -> RenderableType:
    """Show the sample's facts, its prompt in colour, and its targets."""
    example = sample.example
    facts = [
        f"{escape(example.where)}: {example.duration_s:.2f} s, {sample.num_samples:,} samples",
        f"text: {escape(example.text)}",
        f"{len(sample.prompt.ids)} ids, slots (start, length): {sample.prompt.slots}",
        f"{len(sample.targets)} of them are labels; [{SILENT}]no label[/] · [{AUDIO}]audio[/] · "
        f"[{LEARNT}]label[/]",
    ]
    return Group(*(Text.from_markup(fact) for fact in facts), _prompt(sample), _targets(sample))


def _prompt(sample: Sample) -> Table:
    """Show place, id, token and label of everything the decoder reads; an audio slot is one row."""
    table = Table("place", "id", "token", "label", box=SIMPLE_HEAD)
    slots = dict(sample.prompt.slots)
    place = 0
    while place < len(sample.prompt.ids):
        length = slots.get(place, 1)
        number, label = sample.prompt.ids[place], sample.prompt.labels[place]
        style = AUDIO if place in slots else SILENT if label == IGNORED else LEARNT
        where = f"{place}…{place + length - 1}" if place in slots else f"{place}"
        token = f"{sample.tokens[place]} × {length}" if place in slots else sample.tokens[place]
        shown = "–" if label == IGNORED else f"{label}"
        table.add_row(where, f"{number}", Text(token), shown, style=style)
        place += length
    return table


def _targets(sample: Sample) -> Table:
    """Show the loss of every label after its own sound, and what the wrong sounds add to it."""
    table = Table(title="loss per token (nats)", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("place", "token", "own clip", "silence", "other clip"):
        table.add_column(heading, justify="left" if heading == "token" else "right")
    for target in sample.targets:
        added = [_added(wrong, target.own) for wrong in (target.silent, target.other)]
        table.add_row(f"{target.place}", Text(target.token), f"{target.own:.3f}", *added)
    own = sample.mean("own")
    wrong = [sample.mean("silent"), None if sample.other is None else sample.mean("other")]
    table.add_section()
    table.add_row("", "mean", f"{own:.3f}", *(_added(loss, own) for loss in wrong))
    table.caption = f"other clip: {escape(sample.other)}" if sample.other else None
    return table


def _added(wrong: float | None, own: float) -> str:
    """Show how much worse the wrong sound makes it: red where the sound mattered."""
    if wrong is None:
        return "–"
    delta = wrong - own
    return f"[red]{delta:+.3f}[/]" if delta > 0.1 else f"{delta:+z.3f}"
