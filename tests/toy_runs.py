"""Small runs for the tests: toy parts of every preset, eight clips, a folder of its own."""

import json
from dataclasses import replace
from pathlib import Path

import soundfile
import toys

from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.mixture import DataConfig
from tiny_audio.model.saving import save
from tiny_audio.train.recipe import ModelConfig, Recipe, Stage

TEXTS = "one two three four five|turn on the light|one|light two|three|the|five five|on four"


def manifest(folder: Path) -> Path:
    """Eight clips of two speakers, 0.3 to 1 s, with different texts."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [4_800 + 1_600 * n for n in range(8)]
    rows = []
    for number, (clip, text) in enumerate(zip(toys.clips(*sizes), TEXTS.split("|"), strict=True)):
        name = f"{number}.flac"
        soundfile.write(folder / name, clip.numpy().clip(-1, 1), 16_000)
        rows.append({"audio": name, "text": text, "speaker": f"s{number % 4}"})
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(folder: Path, name: str = "nano", **stage) -> Recipe:
    """Projector and decoder of a toy preset on the eight clips, in float32."""
    toy = toys.toy_preset(name)
    if len(toy.encoder.layers) > 1:  # hidden states of the real encoder's depth
        start = save(toy.build(), folder / "start", whole=True)
        model = ModelConfig(checkpoint=str(start))
    else:
        model = ModelConfig(
            preset=name,
            encoder=toy.encoder.source,
            decoder=toy.decoder.source,
            projector={"kind": toy.projector.kind, **toy.projector.to_dict()},
        )
    source = SourceConfig(path=str(manifest(folder / "clips")))
    chosen = {
        "learning_rate": {"projector": 5e-3, "decoder": 5e-3},
        "steps": 8,
        "warmup_steps": 2,
        "save_every_s": 1e9,
    }
    return Recipe(
        name=name,
        model=model,
        data=DataConfig(sources={"clips": source}, batch_items=4, micro_batches=2, block=8),
        stages={"only": Stage(**{**chosen, **stage})},
        output=str(folder / "run"),
        frames=str(folder / "frames"),
        precision="fp32",
        device="cpu",
        log_every=1,
    )


def validated(given: Recipe) -> Recipe:
    """The same with its training clips as validation clips."""
    return replace(given, data=replace(given.data, validation=given.data.sources))


def rows(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]
