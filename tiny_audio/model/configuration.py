"""The whole model's configuration: what `config.json` of a checkpoint holds.

Each part's own configuration stands next to that part; this file combines them. It also computes
the lengths of a whole clip: samples → windows → frames → audio positions.
"""

import functools
import itertools
import re
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from .audio import SAMPLE_RATE
from .bounds import check_numbers
from .config import StrictConfig
from .decoder import DecoderConfig
from .decoding import DecodingConfig
from .encoder import EncoderConfig
from .errors import ConfigError
from .projection import ProjectorConfig
from .projector import projector_config
from .prompt import Positions, PromptConfig, Stretch


@dataclass(frozen=True, kw_only=True)
class LoraConfig(StrictConfig):
    """Low-rank adapters on one part. `targets` are names of layers in that part: `q_proj` means
    every `….q_proj` of this part, and never one of the other part.
    """

    rank: int
    targets: tuple[str, ...]
    alpha: int | None = None  # None: alpha = rank, scale 1

    def __post_init__(self) -> None:
        super().__post_init__()
        # The names become a regular expression, which a checkpoint must not write.
        if bad := [name for name in self.targets if not re.fullmatch(r"\w+(\.\w+)*", name)]:
            raise ConfigError(f"LoRA targets {bad[0]!r}: a layer's name, for example q_proj.")


# Typed views of the plain dicts; made once, forgotten when a dict is replaced, never written.
TYPED = ("encoder", "projector", "language_model", "prompt", "lora", "decoding", "text_config")

MOST_TASKS, LONGEST_NAME, LONGEST_QUESTION = 64, 100, 2_000  # the last two in characters

# Where transformers finds these files in a published folder that carries them. Only `publish`
# writes it: a checkpoint that is saved again does not carry them.
CODE = "auto_map"


class AudioLMConfig(PreTrainedConfig):
    """The content of `config.json`: the typed configuration of every part, as plain dicts."""

    model_type = "tiny_audio"
    audio_config: dict | None = None
    projector_config: dict | None = None
    decoder_config: dict | None = None
    prompt_config: dict | None = None
    lora_config: dict | None = None
    decoding_config: dict | None = None
    audio_token_id: int | None = None
    # What ends an answer: the template's stop first, then the tokenizer's and the decoder's own.
    stop_token_ids: list | None = None
    # Written by `save`: names of the parameters in trained.safetensors, hashes of everything else.
    trained: list | None = None
    identity: dict | None = None
    # Hash of the projector as it was made; while it still has this hash, nothing has trained it.
    fresh_projector: str | None = None
    # Questions that training taught beside the prompt's instruction: a task's name → how to ask it.
    tasks: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # transformers keeps unknown keys silently; a typo in a checkpoint must not.
        mine = set(AudioLMConfig.__annotations__)
        for key in kwargs:
            public = not key.startswith("_") and key in vars(self)
            if public and key not in PreTrainedConfig.__dataclass_fields__ and key != CODE:
                raise ConfigError.unknown(key, mine, "The checkpoint's config.json")
        refuse_tasks(self.tasks or {})

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read config.json, after a look at its numbers: transformers builds from them at once."""
        check_numbers(config_dict, "The checkpoint's config.json")
        return super().from_dict(config_dict, **kwargs)

    def __setattr__(self, key: str, value: Any) -> None:
        if key.endswith("_config"):
            for name in TYPED:
                self.__dict__.pop(name, None)
        super().__setattr__(key, value)

    def to_dict(self) -> dict[str, Any]:
        left_out = (*TYPED, CODE)
        return {key: value for key, value in super().to_dict().items() if key not in left_out}

    @functools.cached_property
    def encoder(self) -> EncoderConfig:
        return EncoderConfig.from_dict(self.audio_config or {})

    @functools.cached_property
    def projector(self) -> ProjectorConfig:
        return projector_config(self.projector_config or {})

    @functools.cached_property
    def language_model(self) -> DecoderConfig:
        return DecoderConfig.from_dict(self.decoder_config or {})

    @functools.cached_property
    def prompt(self) -> PromptConfig:
        return PromptConfig.from_dict(self.prompt_config or {})

    @functools.cached_property
    def lora(self) -> dict[str, LoraConfig]:
        """Return the adapters of each part that has some, by its name ("encoder", "decoder")."""
        return {part: LoraConfig.from_dict(v) for part, v in (self.lora_config or {}).items()}

    @functools.cached_property
    def decoding(self) -> DecodingConfig:
        return DecodingConfig.from_dict(self.decoding_config or {})

    @functools.cached_property
    def text_config(self) -> PreTrainedConfig:
        return self.language_model.hf

    def get_text_config(self, decoder: Any = None, encoder: Any = None) -> PreTrainedConfig:
        return self.text_config if self.decoder_config else self

    @property
    def encoder_dim(self) -> int:
        return self.encoder.width

    @property
    def llm_dim(self) -> int:
        return int(self.text_config.hidden_size)

    @property
    def audio_downsample_rate(self) -> float:
        """Return how many encoder frames make one audio position."""
        return self.projector.frames_per_position

    def positions_for(self, num_samples: int) -> int:
        """Return P, the audio positions of one clip, before any tensor exists."""
        return sum(
            self.projector.positions_for(self.encoder.frames_for(n))
            for n in self.windows(num_samples)
        )

    def stretches(self, num_samples: int) -> Positions:
        """Return a clip as `render` takes it: the number of its positions, or its windows, each
        with the time at which it begins.
        """
        windows = self.windows(num_samples)
        if self.prompt.long_audio != "timed_windows" or len(windows) == 1:
            return self.positions_for(num_samples)
        starts = itertools.accumulate(windows, initial=0)
        return [
            Stretch(clock(start), self.positions_for(length))
            for start, length in zip(starts, windows, strict=False)
        ]

    def windows(self, num_samples: int) -> list[int]:
        """Return the lengths of the windows in which a clip is encoded: one, unless it is long."""
        longest = self.encoder.max_samples
        if longest is None or num_samples <= longest or self.prompt.long_audio == "error":
            return [num_samples]
        whole, rest = divmod(num_samples, longest)
        return [longest] * whole + [rest] * (rest > 0)


def refuse_tasks(tasks: Any) -> None:
    """Refuse tasks that are not a few short names, each with a question of some length."""
    good = isinstance(tasks, dict) and len(tasks) <= MOST_TASKS
    if not good or not all(
        isinstance(text, str) and 0 < len(text) <= longest
        for name, question in tasks.items()
        for text, longest in ((name, LONGEST_NAME), (question, LONGEST_QUESTION))
    ):
        raise ConfigError(
            f"The checkpoint's config.json has tasks={str(tasks)[:100]}; expected at most "
            f"{MOST_TASKS} names of up to {LONGEST_NAME} characters, each with a question of up "
            f"to {LONGEST_QUESTION:,}."
        )


def clock(num_samples: int) -> str:
    """Write when a window begins, as the decoder reads it: [0:30], [1:30:00]."""
    minutes, seconds = divmod(num_samples // SAMPLE_RATE, 60)
    hours, minutes = divmod(minutes, 60)
    return f"[{hours}:{minutes:02}:{seconds:02}]" if hours else f"[{minutes}:{seconds:02}]"
