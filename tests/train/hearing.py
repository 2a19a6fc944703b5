"""Clips in memory, visits of them, and toy models, for the tests of training."""

import copy
import functools

import torch
import toys
from sounds import encode

from tiny_audio.data.examples import Example
from tiny_audio.data.mixture import Visit
from tiny_audio.data.sounds import BytesSound
from tiny_audio.model.checkpoint import build
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.train.recipe import Stage

TEXTS = ["one two three", "turn on the light", "Seven.", "four five"]
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
    size, said = size or SIZES[number % 4], TEXTS[number % 4] if text is None else text
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
