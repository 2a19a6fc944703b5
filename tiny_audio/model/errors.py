"""Every error this library raises on purpose, in one small tree.

    TinyAudioError
    ├── AudioError        (ValueError)   a file or its samples cannot be used
    ├── ConfigError       (ValueError)   an unknown key or a value that cannot work
    ├── PromptError       (ValueError)   placeholders in the prompt differ from audio embeddings
    ├── CheckpointError                  a saved model is not whole, or is another model
    ├── EncoderError                     an encoder breaks its length contract
    └── MissingExtra      (ImportError)  an optional dependency is not installed

A message says what was given, what was expected and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class TinyAudioError(Exception):
    """The base of the tree: `except TinyAudioError` catches all that is raised on purpose."""


class Reason(StrEnum):
    """The kinds of trouble with sound: errors and notes are counted by them."""

    NO_FILE = "no such file"
    NOT_A_FILE = "not a file"
    NO_PERMISSION = "no permission"
    NOT_OPENED = "cannot be opened"
    EMPTY = "0 bytes"
    NOT_AUDIO = "not audio"
    CODEC = "a codec that cannot be read"
    URL = "a URL"
    RATE = "impossible sampling rate"
    CHANNELS = "impossible number of channels"
    TRACK = "no such track"
    DAMAGED = "damaged"
    NOT_FINITE = "NaN or Inf in the samples"
    SCALE = "samples beyond full scale"
    NO_SAMPLES = "no samples"
    STRETCH = "ends before its stretch"
    TOO_LONG = "longer than can be loaded"
    ARGUMENT = "wrong argument"
    UNREADABLE = "cannot be read"
    # of notes only: the sound is used
    HEADER = "its header announces another length"
    JOINED = "several recordings joined"
    TRACKS = "several tracks"
    LEFT_OVER = "bytes that are no sound"
    TIME = "time stamps with gaps or jumps"
    LEVEL = "a level that needs a look"


class AudioError(TinyAudioError, ValueError):
    """A source or its samples cannot be used; `reason` is the kind of trouble, to count by."""

    def __init__(self, message: str, reason: Reason = Reason.UNREADABLE) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(TinyAudioError, ValueError):
    """A configuration holds an unknown key or an impossible value."""

    @classmethod
    def unknown(cls, key: str, valid: Iterable[str], where: str) -> ConfigError:
        """Make the error for a key that `where` does not have; it names the nearest valid key."""
        names = sorted(valid)
        guess = nearest(key, names)
        hint = f"Did you mean {guess!r}?" if guess else f"Valid: {', '.join(names)}."
        return cls(f"{where} has no {key!r}. {hint}")


class PromptError(TinyAudioError, ValueError):
    """The numbers of audio placeholders in the prompt and of audio embeddings differ."""

    @classmethod
    def counts(cls, num_placeholders: int, num_embeddings: int, where: str) -> PromptError:
        """Make the error for one sample; it names both counts."""
        return cls(
            f"{where}: the prompt holds {num_placeholders} audio placeholders but the audio gives "
            f"{num_embeddings} embeddings. Build the prompt with render() from the same audio, "
            "and shorten the text instead of cutting through the audio span."
        )


class CheckpointError(TinyAudioError):
    """A checkpoint is incomplete, damaged, or belongs to a different model."""


class EncoderError(TinyAudioError):
    """An encoder got audio it cannot take, or returned another length than it promised."""


class MissingExtra(TinyAudioError, ImportError):  # noqa: N818
    """An optional dependency is missing; the message names the line that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        """`what` needs the extra, e.g. `MissingExtra("Reading m4a", "media")`."""
        super().__init__(
            f"{what} needs an extra. Type: pip install 'tiny-audio[{extra}]' "
            f"(in a clone: uv sync --extra {extra})"
        )


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn a failed import into the error that names the extra: `with needing("LoRA", "lora"):`."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(what, extra) from error


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like `name`, or None when none is close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return found[0] if found else None
