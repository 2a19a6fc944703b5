"""A training run as data: the model, the sounds, and a list of stages.

`tiny-audio train` composes a `Recipe` and hands it to `run.py`. Everything has its default here and
nowhere else; an unknown key or an impossible value is refused before anything is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from tiny_audio.data.mixture import DataConfig
from tiny_audio.infer.ctc_head import CtcHeadConfig
from tiny_audio.model.config import StrictConfig
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import ConfigError

# Keys of stages in earlier versions, with the values that asked for nothing (decision 046).
REMOVED = {"packing": False, "distill": None}
PARTS = ("projector", "encoder", "decoder")
Optimizer = Literal["adamw", "muon"]
Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(StrictConfig):
    """The model that training begins with: a preset under a fresh projector, or a checkpoint.

    `encoder` and `decoder` (Hub ids or folders) exchange a part of the preset; `projector` replaces
    its projector, for example `{kind: mlp, k: 4, hidden: 256}`.
    """

    preset: str = "nano"
    checkpoint: str = ""
    encoder: str = ""
    decoder: str = ""
    projector: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint and (self.encoder or self.decoder or self.projector):
            raise ConfigError(
                f"The checkpoint {self.checkpoint!r} has its own encoder, projector and decoder; "
                f"give model.checkpoint alone, or leave it empty to put parts together."
            )


@dataclass(frozen=True, kw_only=True)
class Stage(StrictConfig):
    """One stretch of training. A part trains when `learning_rate` names it; with `lora`, the part's
    adapters train in place of its own weights. One of `steps`, `minutes` and `epochs` is given.

    Defaults follow the published recipes: 1e-3 for a projector alone, 500 steps of warm-up, cosine.
    Where a decoder or LoRA trains too, 1e-4 is usual.
    """

    learning_rate: dict[str, float] = field(default_factory=lambda: {"projector": 1e-3})
    lora: dict[str, LoraConfig] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)  # of sources, in place of the data's
    steps: int = 0
    minutes: float = 0.0
    epochs: float = 0.0
    warmup_steps: int = 500
    final_rate: float = 0.1  # of the learning rate, where the cosine ends
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    cache: bool = False  # keep the frozen encoder's frames on disk
    frame_dropout: float = 0.0  # share of cached frames left out
    frame_stretch: float = 0.0  # 0.2: cached frames up to 1.2 times as slow or as fast
    checkpoint_activations: bool = False
    evaluate_every_s: float = 600.0
    save_every_s: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in [*self.learning_rate, *self.lora]:
            if part not in (*PARTS, "head"):
                raise ConfigError.unknown(part, PARTS, "A stage")
        for part, rate in self.learning_rate.items():
            if not 0 <= rate < math.inf:
                raise ConfigError(f"learning_rate.{part}={rate}: expected a number of 0 or more.")
        if sum(budget > 0 for budget in (self.steps, self.minutes, self.epochs)) != 1:
            raise ConfigError("A stage needs one of steps, minutes and epochs, and not two.")
        if lost := sorted(set(self.lora) - set(self.learning_rate)):
            raise ConfigError(f"LoRA on the {lost[0]} needs learning_rate.{lost[0]}.")
        if "projector" in self.lora:
            raise ConfigError("The projector is small and trains whole; LoRA is for the others.")
        if self.cache and "encoder" in self.learning_rate:
            raise ConfigError("Frames cannot be cached while the encoder trains: set cache=false.")
        if min(self.frame_dropout, self.frame_stretch) < 0 or self.frame_dropout >= 1:
            raise ConfigError("frame_dropout is a share from 0 to 1, frame_stretch at least 0.")
        if odd := [name for name, weight in self.weights.items() if weight < 0]:
            raise ConfigError(
                f"The stage's weight of {odd[0]!r} is negative; 0 means no weight of its own."
            )
        if self.clip_norm <= 0:
            raise ConfigError("clip_norm must be greater than 0; 1e9 clips nothing.")
        if not self.cache and (self.frame_dropout or self.frame_stretch):
            raise ConfigError(
                "frame_dropout and frame_stretch change cached frames: set cache=true."
            )


@dataclass(frozen=True, kw_only=True)
class Setting(StrictConfig):
    """The settings of every run: model, clips, seed, and where it computes and writes. Frames go to
    `frames`, shared by runs.
    """

    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    output: str = ""
    frames: str = "runs/frames"
    # auto: bf16 where the hardware multiplies it, fp32 elsewhere; a run keeps what it began with.
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = ""  # empty: a GPU if there is one, else the CPU


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(Setting):
    """The training of a CTC head: one stage with a rate for the "head", and for the "encoder" where
    that trains too. `head` is a folder of one to begin with.
    """

    stage: Stage
    head: str = ""
    hidden: int = CtcHeadConfig.hidden
    depth: int = CtcHeadConfig.depth

    def __post_init__(self) -> None:
        super().__post_init__()
        named = set(self.stage.learning_rate)
        if not {"head"} <= named <= {"head", "encoder"} or self.stage.lora:
            raise ConfigError(
                f"A CTC head's stage trains the head, alone or with the whole encoder, not "
                f"{', '.join(sorted(named))}. Give learning_rate.head, and learning_rate.encoder "
                f"where the encoder trains."
            )


@dataclass(frozen=True, kw_only=True)
class Recipe(Setting):
    """A whole run. `output` holds everything it writes; empty, it is runs/NAME."""

    name: str
    stages: dict[str, Stage] = field(default_factory=dict)
    strategy: Strategy = "ddp"  # of several processes
    track: Literal["", "wandb", "trackio", "tensorboard"] = ""
    log_every: int = 10
    keep: int = 2  # rotating saves

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise ConfigError(f"The recipe {self.name!r} has no stages; give at least one.")
        if any("head" in stage.learning_rate for stage in self.stages.values()):
            raise ConfigError("A CTC head is trained by tiny-audio train-head, not by a stage.")
        if self.log_every < 1 or self.keep < 1:
            raise ConfigError(f"log_every={self.log_every} and keep={self.keep} must be 1 or more.")
        self._refuse_unused_augmentation()

    def _refuse_unused_augmentation(self) -> None:
        """Refuse copies without an augmentation, and one that cached frames would ignore."""
        cached = [stage.cache for stage in self.stages.values()]
        copied = any(source.copies > 1 for source in self.data.sources.values())
        if all(cached) and self.data.augment and not copied:
            raise ConfigError(
                "Stages with cache=true use clips as they were recorded, unless a source has "
                "copies: data.augment would have no effect. Give data.sources.NAME.copies=2 or "
                "more, data.augment=null, or cache=false."
            )
        if copied and not (any(cached) and self.data.augment):
            raise ConfigError(
                "A source's copies are augmented versions in the cache of frames: they need "
                "data.augment and a stage with cache=true. Give both, or copies=1."
            )


@dataclass(frozen=True)
class LoopConfig:
    """The settings of the loop that trains one stage. One of `steps` and `budget_s` is given.

    `rates` are learning rates by prefix of a name. Defaults are those of a stage and a recipe.
    """

    rates: dict[str, float]
    steps: int = 0
    budget_s: float = 0.0
    optimizer: Optimizer = Stage.optimizer
    warmup_steps: int = Stage.warmup_steps
    final_rate: float = Stage.final_rate
    weight_decay: float = Stage.weight_decay
    clip_norm: float = Stage.clip_norm
    bf16: bool = True
    device: str = "cpu"
    strategy: Strategy = Recipe.strategy
    save_every_s: float = Stage.save_every_s
    evaluate_every_s: float = Stage.evaluate_every_s
    log_every: int = Recipe.log_every
    keep: int = Recipe.keep

    @classmethod
    def of(cls, stage: Stage, steps: int, recipe: Setting, **others: Any) -> LoopConfig:
        """Return what a stage asks for, `steps` long unless it has minutes."""
        names = {field.name for field in fields(cls)} & {field.name for field in fields(stage)}
        of_stage = {name: getattr(stage, name) for name in names - {"steps"}}
        bf16 = recipe.precision == "bf16"
        return cls(steps=steps, budget_s=stage.minutes * 60, bf16=bf16, **of_stage, **others)


def without_removed(values: Any) -> Any:
    """Return the values of a recipe.yaml without keys of earlier versions that asked for nothing.
    One that asked for something stays, and is refused like every unknown key.
    """
    if not isinstance(values, dict) or not isinstance(values.get("stages"), dict):
        return values
    stages = {name: _current(stage) for name, stage in values["stages"].items()}
    return values | {"stages": stages}


def _current(stage: Any) -> Any:
    if not isinstance(stage, dict):
        return stage
    return {k: v for k, v in stage.items() if k not in REMOVED or v != REMOVED[k]}
