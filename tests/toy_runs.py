"""Small runs for the tests: toy parts of every preset, eight clips, a folder of its own; and clips
in memory, visits of them, and toy models, for the steps of training.
"""

import copy
import functools
import json
from dataclasses import replace
from pathlib import Path

import soundfile
import torch
import toys
from sounds import encode

from tiny_audio.data.examples import Example, SourceConfig
from tiny_audio.data.mixture import DataConfig, Visit
from tiny_audio.data.sounds import BytesSound
from tiny_audio.model.checkpoint import build
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projection import ProjectorConfig
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


# In memory -------------------------------------------------------------------------------------

WORDS = ["one two three", "turn on the light", "Seven.", "four five"]
SIZES = (8_000, 12_000, 9_600, 16_000)  # samples
LORA = LoraConfig(rank=4, targets=("q_proj", "v_proj"))
# WavLM's attention takes the weights of its projections, past any adapter on them.
WAVLM_LORA = LoraConfig(rank=4, targets=("intermediate_dense", "output_dense"))
STAGES = {
    "projector": Stage(steps=5),
    "lora": Stage(
        steps=5,
        learning_rate={"projector": 1e-3, "encoder": 1e-3, "decoder": 1e-3},
        lora={"encoder": LORA, "decoder": LORA},
    ),
    "decoder": Stage(steps=5, learning_rate={"projector": 1e-3, "decoder": 1e-3}),
    "encoder": Stage(steps=5, learning_rate={"projector": 1e-3, "encoder": 1e-3}),
}


@functools.cache
def sound(number: int, num_samples: int) -> BytesSound:
    """A clip as the bytes of a wav file."""
    clip = toys.clips(num_samples, seed=number)[0]
    return BytesSound(f"clip-{number}.wav", encode(clip.numpy(), 16_000, subtype="PCM_16"))


def example(number: int, text: str | None = None, size: int = 0, **fields: str) -> Example:
    size, said = size or SIZES[number % 4], WORDS[number % 4] if text is None else text
    fields = {"source": "clips", "speaker": f"speaker {number % 3}", **fields}
    where = f"{fields['source']}:{number}"
    return Example(where, said, size / 16_000, sound(number, size), **fields)


def visit(number: int, turn: int = 0, **fields) -> Visit:
    return Visit(example(number, **fields), turn, 1000 * turn + number)


def visits(count: int) -> list[Visit]:
    return [visit(number) for number in range(count)]


def broken(number: int = 99) -> Visit:
    """A visit of something that is not audio."""
    sound = BytesSound(f"broken-{number}", b"not audio at all")
    return Visit(Example(f"clips:{number}", "gone", 0.5, sound, source="clips"), 0, 0)


@functools.cache
def _built(encoder: str, decoder: str, projector: ProjectorConfig) -> AudioLM:
    torch.manual_seed(0)
    return build(toys.encoder_config(encoder), projector, toys.decoder_config(decoder))


def toy_model(
    encoder: str = "whisper",
    decoder: str = "qwen3",
    projector: ProjectorConfig = toys.PROJECTORS["mlp"],
) -> AudioLM:
    """A model of its own: what a test does to it stays with it."""
    return copy.deepcopy(_built(encoder, decoder, projector))
