"""A model card, computed: every figure in it stands in the run's files, or is one of them in
another unit. The card says "unknown" for everything that the files do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiny_audio.model.errors import ConfigError
from tiny_audio.publish.facts import Facts
from tiny_audio.publish.licences import clips, parts

SHOWN = 3  # right texts, and as many wrong ones
# Licences as the Hub's own list spells them; another name is given as "other" with its name.
SPELLED = re.compile(
    r"(mit|other|unlicense|wtfpl|(apache|bsd|cc|gpl|lgpl|agpl|mpl|odc|openrail)\S*)"
)


@dataclass(frozen=True)
class Price:
    """The price of an hour of a machine, and whose price that is."""

    an_hour: float
    name: str

    @classmethod
    def of(cls, an_hour: float | None, name: str) -> Price | None:
        """Make a price from both options, or None if neither is given."""
        if an_hour is None and not name:
            return None
        if an_hour is None or not name:
            raise ConfigError("A cost needs both: --price 0.50 --price-name 'EUR, HOST, May 2026'.")
        return cls(an_hour, name)


def card(
    repo: str,
    facts: Facts,
    licences: Mapping[str, str],
    price: Price | None = None,
    texts: bool = True,
) -> str:
    """The README.md of a repository; without `texts` it quotes nobody."""
    sections = (
        header(facts, licences["model"]),
        title(repo, facts),
        usage(repo),
        figures(facts),
        samples(facts) if texts else [],
        training(facts, price),
        limits(facts),
        rights(facts, licences),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def header(facts: Facts, licence: str) -> list[str]:
    """Write the header, which the Hub itself reads."""
    known = SPELLED.fullmatch(licence)
    lines = ["---", f"license: {licence if known else 'other'}"]
    lines += [] if known else [f"license_name: {licence}"]
    lines += ["library_name: tiny-audio", "pipeline_tag: automatic-speech-recognition"]
    if based := [s for s in parts(facts.config).values() if re.fullmatch(r"[\w.-]+/[\w.-]+", s)]:
        lines += ["base_model:", *(f"- {one}" for one in based if not one.startswith("."))]
    return [*lines, "tags:", "- tiny-audio", "- speech-recognition", "---"]


def title(repo: str, facts: Facts) -> list[str]:
    kind = (facts.config.get("projector_config") or {}).get("kind", "unknown")
    began = parts(facts.config)
    preset = facts.recipe.get("model", {})
    of = preset.get("checkpoint") or preset.get("preset")
    lines = [
        f"# {repo.split('/')[-1]}",
        "",
        "Speech to text, made with Tiny Audio: an audio encoder hears, a trained projector "
        "translates, a language model writes.",
        "",
        "| part | what | parameters | of them trained |",
        "|---|---|---|---|",
    ]
    for part, what in {**began, "projector": kind}.items():
        lines.append(f"| {part} | {place(what)} | {counted(facts, part)} |")
    return [*lines, "", f"Training began from `{shortened(of)}`."] if of else lines


def counted(facts: Facts, part: str) -> str:
    """Say how many parameters a part has, and how many of them a stage trained at most."""
    counts = [stage.parameters[part] for stage in facts.stages if part in stage.parameters]
    if not counts:
        return "not recorded | not recorded"
    return f"{counts[-1]['total']:,} | {max(one['trainable'] for one in counts):,}"


def place(source: str) -> str:
    """Name the source of a part; a path on the machine that trained is not shown."""
    if source.startswith(("./", "/")):
        return "in this repository"
    return f"`{source}`" if source else "in this repository"


def usage(repo: str) -> list[str]:
    return f'''## Use it

With Tiny Audio (`pip install tiny-audio`), which runs no code of this repository:

```python
from tiny_audio import Transcriber

print(Transcriber.from_pretrained("{repo}").transcribe("speech.flac").text)
```

With transformers, after `import tiny_audio`:

```python
import tiny_audio
from transformers import pipeline

print(pipeline("automatic-speech-recognition", model="{repo}")("speech.flac"))
```

With transformers alone (`pip install transformers torch soundfile soxr`). The option runs the
Python files of this repository, which are those of `tiny_audio/model/`; read them first:

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
batch = processor(audio=["speech.flac"])
tokens = model.generate(**batch, eos_token_id=processor.stop_ids())
new = tokens[:, batch["input_ids"].shape[-1] :]
print(processor.tokenizer.batch_decode(new, skip_special_tokens=True))
```'''.splitlines()


def figures(facts: Facts) -> list[str]:
    """List word error rates: first those that predictions prove, with intervals, then the run's."""
    lines = ["## Figures", ""]
    if facts.evaluations:
        level = facts.evaluations[0][0]["interval"]["level"]
        lines += [
            f"| clips of | clips | failed | words | WER ({percent(level, 0)} interval) "
            "| normaliser | measured |",
            "|---|---|---|---|---|---|---|",
            *(row(result) for result, _ in facts.evaluations),
            "",
            "A clip without an answer counts with all its words deleted. The predictions prove "
            "these figures; `results/` says how to repeat them.",
        ]
    if own := facts.validation:
        lines += [*([""] if facts.evaluations else []), *validation(own)]
    if not facts.evaluations and not own:
        lines += ["None: no result of this model was given when it was published."]
    return lines


def row(result: Mapping[str, Any]) -> str:
    scores, wer, normal = result["scores"], result["scores"]["wer"], result["normalizer"]
    interval = (
        f"{percent(wer['low'])} to {percent(wer['high'])}" if wer["low"] is not None else "none"
    )
    made = result["made"] or {}
    return (
        f"| {cell(result['dataset'].get('name', 'unnamed'))} | {scores['clips']:,} "
        f"| {scores['failed']:,} | {wer['length']:,} | {percent(wer['rate'])} ({interval}) "
        f"| {normal['id']} ({normal['version']}) | {made.get('date', 'unknown')[:10]} |"
    )


def validation(own: Mapping[str, Any]) -> list[str]:
    """Describe the evaluation at the end of a run, on its validation clips, without an interval."""
    if own.get("wer") is None:
        return []
    return [
        f"At the end of the training, on {own['clips']:,} clips of {own['voices']:,} named voices "
        f"that were kept apart: {percent(own['wer'])} WER ({own['words']:,} words, lower case, "
        f"without punctuation, {own['beams']} beams), {own['substitutions']:,} substituted, "
        f"{own['deletions']:,} deleted, {own['insertions']:,} inserted. No interval was computed.",
    ]


def samples(facts: Facts) -> list[str]:
    """Show some right texts and the worst ones, of the first result or of the run's evaluation."""
    pairs = quoted(facts)
    if not pairs:
        return []
    right = [(reference, text) for reference, text, errors in pairs if not errors][:SHOWN]
    wrong = sorted((p for p in pairs if p[2]), key=lambda p: -p[2])[:SHOWN]
    lines = ["## What it writes", "", "| | said | written |", "|---|---|---|"]
    lines += [f"| right | {cell(reference)} | {cell(text)} |" for reference, text in right]
    return lines + [f"| worst | {cell(reference)} | {cell(text)} |" for reference, text, _ in wrong]


def quoted(facts: Facts) -> list[tuple[str, str, float]]:
    """Return (reference, text, word error rate) of each clip, in the order of ids."""
    if facts.evaluations:
        table = sorted(facts.evaluations[0][1], key=lambda one: one.prediction.id)
        return [
            (one.prediction.ref, one.prediction.hyp or "", wrong(one.words))
            for one in table
            if one.words.length
        ]
    rows = facts.validation.get("samples", [])
    return [(r["text"], r["hypothesis"], float(r["text"] != r["hypothesis"])) for r in rows]


def wrong(words: Any) -> float:
    return float((words.substitutions + words.deletions + words.insertions) / words.length)


def training(facts: Facts, price: Price | None) -> list[str]:
    """Describe the training: clips, steps, hardware, time and cost."""
    if not facts.stages:
        return ["## Training", "", "Not recorded: only the checkpoint was published, not its run."]
    kept, hours = facts.data.get("kept", {}), sum(facts.hours.values())
    lines = ["## Training", "", "| clips | kept | hours |", "|---|---|---|"]
    for name, n in kept.items():
        length = f"{facts.hours[name]:.2f}" if name in facts.hours else "not counted"
        lines.append(f"| {cell(name)} | {n:,} | {length} |")
    lines += ["", f"{hours:.2f} hours of speech in all. {left_out(facts.data)}", ""]
    lines += ["| stage | trains | steps | seconds |", "|---|---|---|---|"]
    for stage in facts.stages:
        trains = ", ".join(p for p, counts in stage.parameters.items() if counts["trainable"])
        lines.append(f"| {cell(stage.name)} | {trains} | {stage.steps:,} | {stage.seconds:,.0f} |")
    lines += ["", f"{long(facts.seconds)} of computing in all, {hardware(facts)}."]
    lines += [money(facts, price), "", "`run/` holds the recipe and every line of its log."]
    return lines


def long(seconds: float) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def left_out(data: Mapping[str, Any]) -> str:
    if (dropped := data.get("dropped")) is None:
        return "Whether clips were left out is not recorded."
    counts = ", ".join(f"{n:,} × {reason}" for reason, n in dropped.items())
    return f"Left out: {counts}." if counts else "No clip was left out."


def hardware(facts: Facts) -> str:
    """Name every kind of machine on which the run was started or continued."""
    kinds = list[str]()
    for machine in facts.machines:
        found = machine["hardware"]
        what = found["gpu"] or f"{found['cpu']}, {found['cores']} cores"
        kinds.append(f"{what}, {machine['processes']} processes")
    return f"on {'; then on '.join(dict.fromkeys(kinds))}" if kinds else "on a machine not recorded"


def money(facts: Facts, price: Price | None) -> str:
    if price is None:
        return "What it cost was not computed: no price was named."
    hours = facts.seconds / 3600
    return f"That costs {price.an_hour * hours:.2f} at {price.an_hour} an hour ({price.name})."


def limits(facts: Facts) -> list[str]:
    """List the failures that were counted, and the conditions that were not measured."""
    lines = ["## Limits", ""]
    for result, _ in facts.evaluations:
        counted = {name: n for name, n in result["counters"].items() if n}
        name = cell(result["dataset"].get("name", "unnamed"))
        counts = ", ".join(f"{key.replace('_', ' ')}: {n:,}" for key, n in counted.items())
        lines.append(f"- On {name}: {counts or 'no empty, cut off, looping or refused answer'}.")
    where = "the clips named above" if facts.evaluations or facts.validation else "no clips"
    return [
        *lines,
        f"- It was measured on {where} and on nothing else: other speakers, languages, microphones "
        "and noise are unknown.",
        "- It writes fluent text also where it misunderstood. Let a person check what matters.",
    ]


def rights(facts: Facts, licences: Mapping[str, str]) -> list[str]:
    names = {"model": "what was trained", "encoder": "the encoder", "decoder": "the decoder"}
    lines = ["## Licences", "", "| part | licence |", "|---|---|"]
    for part, licence in licences.items():
        what = names.get(part) or f"clips {cell(part.removeprefix('data.'))}"
        lines.append(f"| {what} | {licence} |")
    used = "" if clips(facts) else " Which clips it was trained on is not recorded here."
    source = f"As stated by the makers of a part, or by whoever published this.{used}"
    return [*lines, "| the Python files | mit |", "", source]


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def cell(text: object) -> str:
    """Make a text safe for a cell of a table: one line, without columns or markup."""
    plain = " ".join(str(text).split())
    return re.sub(r"([\\|`*_\[\]<>])", r"\\\1", plain)


def shortened(place: object) -> str:
    """Return the last part of a path, since the rest tells who trained, and where."""
    return str(place).rsplit("/", 1)[-1] if str(place).startswith(("/", "~", ".")) else str(place)
