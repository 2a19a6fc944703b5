"""Recipes by name, complete and typed: `tiny-audio train +experiment=NAME`.

Rates, ranks and frame rates are those that published recipes of this kind of model use: a projector
alone at 1e-3, 1e-4 where LoRA or the encoder trains too, bfloat16, 12.5 positions a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import SourceConfig
from tiny_audio.data.mixture import DataConfig
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.presets import PRESETS
from tiny_audio.train.recipe import ModelConfig, Recipe, Stage

EMBEDDED = Path(__file__).resolve().parents[1] / "data" / "quickstart"
# 100 hours of read English (CC BY 4.0), until you name your own with data.sources.
LIBRISPEECH = SourceConfig(
    path="hf:openslr/librispeech_asr:clean", split="train.100", speaker="speaker_id"
)
GPU = DataConfig(
    sources={"librispeech": LIBRISPEECH},
    validation_speakers=10,
    text_style="lower",
    augment=Augment(),
    batch_s=160.0,
    batch_items=128,
)
ALIGN = Stage(steps=20_000, warmup_steps=1000)
ENCODER_LORA = LoraConfig(rank=8, targets=("q_proj", "k_proj"))
DECODER_LORA = LoraConfig(rank=32, targets=("q_proj", "v_proj"))
ADAPT = Stage(
    learning_rate={"projector": 1e-4, "encoder": 1e-4, "decoder": 1e-4},
    lora={"encoder": ENCODER_LORA, "decoder": DECODER_LORA},
    steps=10_000,
)


def alignment(preset: str) -> Recipe:
    """Train the projector alone between two frozen pretrained parts."""
    return Recipe(name=preset, model=ModelConfig(preset=preset), data=GPU, stages={"align": ALIGN})


def quickstart() -> Recipe:
    """Train a fresh projector for nano on the embedded corpus, for three minutes on two cores. What
    else was tried is in docs/decisions/032.
    """
    data = DataConfig(
        sources={"clips": SourceConfig(path=str(EMBEDDED / "train"))},
        validation={"held_out": SourceConfig(path=str(EMBEDDED / "held-out"))},
        validation_clips=40,
        validation_beams=5,
        batch_s=25.0,
        micro_batches=2,
        block=1024,
    )
    stage = Stage(
        learning_rate={"projector": 3e-3},
        minutes=1.65,
        warmup_steps=20,
        final_rate=0.02,
        cache=True,
        frame_dropout=0.05,
        frame_stretch=0.25,
        evaluate_every_s=25,
        save_every_s=25,
    )
    return Recipe(name="quickstart", data=data, stages={"projector": stage})


def projector_lora_both() -> Recipe:
    """Train the projector, then LoRA on both ends, then all three together."""
    lora = Stage(
        learning_rate={"encoder": 1e-4, "decoder": 1e-4},
        lora=ADAPT.lora,
        steps=5_000,
    )
    stages = {"align": ALIGN, "lora": lora, "both": ADAPT}
    model = ModelConfig(preset="whisper_swiglu_smollm3")
    return Recipe(name="projector_lora_both", model=model, data=GPU, stages=stages)


def hubert_lora() -> Recipe:
    """Train LoRA r=8 on q, k of HuBERT-xlarge and r=32 on q, v of Qwen3-8B, with the projector."""
    stages = {"align": ALIGN, "adapt": ADAPT}
    model = ModelConfig(preset="hubert_swiglu_qwen3")
    return Recipe(name="hubert_lora", model=model, data=GPU, stages=stages)


def mufun_full() -> Recipe:
    """Train MuFun: the connector warms up alone, then everything trains."""
    full = Stage(
        learning_rate={"projector": 1e-4, "encoder": 1e-5, "decoder": 2e-5},
        steps=20_000,
        checkpoint_activations=True,
    )
    return Recipe(
        name="mufun_full",
        model=ModelConfig(preset="mufun"),
        data=replace(GPU, micro_batches=8),
        stages={"warm_up": ALIGN, "full": full},
        strategy="fsdp",
    )


def mufun_small() -> Recipe:
    """Train MuFun's two stages on two cores: the connector alone, then everything.

    Reads the music that `python -m recipes.music` makes; name other clips with data.sources. Rates
    are ten times those of `mufun_full`: a model a thousand times smaller needs and takes more.
    """
    music = "runs/music"
    data = DataConfig(
        sources={"music": SourceConfig(path=f"{music}/train.jsonl")},
        validation={"held_out": SourceConfig(path=f"{music}/validation.jsonl")},
        validation_clips=40,
        batch_s=100.0,
        batch_items=24,
    )
    warm_up = Stage(learning_rate={"projector": 2e-3}, minutes=1.5, warmup_steps=20, cache=True)
    full = Stage(
        learning_rate={"projector": 1e-3, "encoder": 1e-4, "decoder": 2e-4},
        minutes=3.0,
        warmup_steps=20,
    )
    return Recipe(
        name="mufun_small",
        model=ModelConfig(preset="mufun_small"),
        data=data,
        stages={"warm_up": warm_up, "full": full},
    )


def questions() -> Recipe:
    """Teach nano to answer three questions, and to go on transcribing, in minutes on one core.

    Reads what `python examples/12_questions.py --out runs/questions` makes.
    """
    folder = "runs/questions"
    data = DataConfig(
        sources={"questions": SourceConfig(path=f"{folder}/train.jsonl")},
        validation={
            name: SourceConfig(path=f"{folder}/{name}.jsonl")
            for name in ("describe", "mood")  # a question about two clips is asked by `understand`
        },
        validation_clips=40,
        batch_s=25.0,
    )
    stage = Stage(
        learning_rate={"projector": 1e-3, "decoder": 5e-4},
        steps=400,
        warmup_steps=20,
        final_rate=0.02,
        cache=True,
        evaluate_every_s=30,
        save_every_s=60,
    )
    model = ModelConfig(checkpoint="nano")
    return Recipe(name="questions", model=model, data=data, stages={"all": stage})


def whisper_tiny_nano() -> Recipe:
    """Train a real encoder on two cores: Whisper tiny.en and a language model of 3 M parameters, on
    read English of Mandarin speakers and on synthetic speech. The encoder has been trained for
    these speakers with a CTC head; here projector and decoder learn to read its frames. What comes
    before, and how the result is measured, is in benchmarks/whisper_tiny.
    """
    corpus = "runs/nano/corpus"
    data = DataConfig(
        sources={
            "readers": SourceConfig(path=f"{corpus}/speechocean762-train", weight=0.4, copies=4),
            "open": SourceConfig(path=f"{corpus}/open", limit=9_000),
            "speech": SourceConfig(path=f"{corpus}/speech", limit=2_000),
        },
        validation={"held_out": SourceConfig(path=f"{corpus}/speechocean762-test")},
        validation_clips=150,
        validation_beams=5,
        augment=Augment(speed=0.8, speed_range=(0.84, 1.2)),
        nonspeech=0.01,
        micro_batches=2,
        block=4096,
    )
    stage = Stage(
        learning_rate={"projector": 1.5e-3, "decoder": 1.5e-3},
        minutes=34,
        warmup_steps=60,
        final_rate=0.02,
        cache=True,
        frame_dropout=0.05,
        evaluate_every_s=300,
    )
    return Recipe(
        name="whisper_tiny_nano",
        model=ModelConfig(
            preset="whisper_tiny",
            encoder="runs/whisper_ctc/encoder",
            decoder="nano",
            projector={"kind": "swiglu", "k": 4, "hidden": 512},
        ),
        data=data,
        stages={"frames": stage},
    )


EXPERIMENTS: dict[str, Callable[[], Recipe]] = {
    "quickstart": quickstart,
    "projector_lora_both": projector_lora_both,
    "hubert_lora": hubert_lora,
    "mufun_full": mufun_full,
    "mufun_small": mufun_small,
    "questions": questions,
    "whisper_tiny_nano": whisper_tiny_nano,
    **{name: partial(alignment, name) for name in PRESETS if name not in ("nano", "mufun_small")},
}
