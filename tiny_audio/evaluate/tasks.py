"""Tasks as data: the question, the possible answers, and how an answer is read.

Every clip brings its own reference: a text, a class, the letter of an option, or the slots of a
caption. `read` turns an answer into the class it commits to; what that is worth is in
`understanding.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tiny_audio.evaluate.parsers import LETTERS, Classes, parse_choice, parse_class, words
from tiny_audio.model.config import StrictConfig
from tiny_audio.model.errors import ConfigError

Kind = Literal["transcription", "classification", "choice", "caption"]


@dataclass(frozen=True, kw_only=True)
class Task(StrictConfig):
    """One task. `classes` are of a classification; `slots` (name → classes) of captions."""

    kind: Kind
    prompt: str = ""  # "": the model's own instruction
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    slots: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.kind == "classification") != bool(self.classes):
            raise ConfigError(f"A {self.kind} task has {len(self.classes)} classes. {EXPECTED}")
        if (self.kind == "caption") != bool(self.slots):
            raise ConfigError(f"A {self.kind} task has {len(self.slots)} slots. {EXPECTED}")
        for classes in (self.classes, *self.slots.values()):
            _check_names(classes)


EXPECTED = 'Classes belong to kind "classification", slots to kind "caption"; both need them.'


def _check_names(classes: Classes) -> None:
    """Two classes cannot share a name: no answer could then be right."""
    owners: dict[tuple[str, ...], str] = {}
    for name, ways in classes.items():
        for way in (name, *ways):
            key = tuple(words(way))
            if not key or owners.setdefault(key, name) != name:
                raise ConfigError(
                    f"{way!r} of the class {name!r} "
                    + (f"also names {owners[key]!r}." if key else "has no words.")
                    + " Every name belongs to one class."
                )


EMOTIONS = {
    "neutral": ("calm", "no emotion", "unemotional"),
    "happy": ("happiness", "joy", "joyful", "cheerful"),
    "sad": ("sadness", "sorrowful", "unhappy"),
    "angry": ("anger", "furious", "annoyed"),
    "afraid": ("fear", "fearful", "scared"),
    "disgusted": ("disgust",),
    "surprised": ("surprise", "astonished"),
}
SOUNDS = {  # ESC-10's classes
    "dog": ("dogs", "barking", "dog barking", "dog bark"),
    "rooster": ("rooster crowing", "cockerel", "cock crowing"),
    "rain": ("raining", "rainfall"),
    "sea_waves": ("waves", "sea", "ocean", "surf"),
    "crackling_fire": ("fire", "crackling", "campfire"),
    "crying_baby": ("baby", "baby crying", "crying", "infant crying"),
    "sneezing": ("sneeze", "person sneezing"),
    "clock_tick": ("clock", "clock ticking", "ticking", "ticking clock"),
    "helicopter": ("chopper", "rotor"),
    "chainsaw": ("chain saw",),
}
INTENTS = {
    "turn_on": ("switch on", "activate"),
    "turn_off": ("switch off", "deactivate"),
    "increase": ("turn up", "raise"),
    "decrease": ("turn down", "lower"),
    "set_timer": ("timer", "set a timer", "set an alarm", "alarm"),
    "play_music": ("music", "play a song"),
    "ask_time": ("time", "what time is it"),
    "ask_weather": ("weather", "forecast"),
}


def _asking(question: str, classes: dict[str, tuple[str, ...]]) -> Task:
    listed = ", ".join(name.replace("_", " ") for name in classes)
    prompt = f"{question} Answer with one of these only: {listed}."
    return Task(kind="classification", prompt=prompt, classes=classes)


TASKS: dict[str, Task] = {
    "transcription": Task(kind="transcription"),
    "describe": _asking("What makes this sound?", SOUNDS),
    "emotion": _asking("Which emotion does the speaker show?", EMOTIONS),
    "intent": _asking("What does the speaker want?", INTENTS),
    "gender": _asking(
        "Is the voice male or female?",
        {"male": ("man", "m", "boy"), "female": ("woman", "f", "girl")},
    ),
    "choice": Task(kind="choice"),
    "music": Task(
        kind="caption",
        prompt="Describe this music: its instrument, tempo and mood.",
        slots={
            "instrument": {
                "piano": (),
                "guitar": ("guitars",),
                "violin": ("fiddle", "strings"),
                "flute": (),
                "drums": ("drum", "percussion"),
                "organ": (),
                "trumpet": ("brass",),
            },
            "tempo": {"slow": ("slowly",), "medium": ("moderate",), "fast": ("quick", "quickly")},
            "mood": {"happy": ("cheerful", "bright"), "sad": ("melancholy", "dark")},
        },
    ),
}


def task(name: str) -> Task:
    """Return a task by name, or from a JSON file with the fields of `Task`."""
    if name in TASKS:
        return TASKS[name]
    path = Path(name)
    if path.suffix != ".json" or not path.is_file():
        raise ConfigError.unknown(name, TASKS, "The list of tasks (or a .json file)")
    try:
        return Task.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no JSON ({error}).") from error


def question(options: list[str]) -> str:
    """Return the options of a multiple choice as they are printed below its question."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([*lines, "Answer with the letter only."])


def read(task: Task, answer: str | None, columns: dict[str, Any]) -> str | None:
    """Return the class or letter that an answer commits to; None: unparsed, as is a failed
    answer.
    """
    if answer is None:
        return None
    if task.kind == "choice":
        return parse_choice(answer, options_in(columns))
    return parse_class(answer, task.classes)


def options_in(columns: dict[str, Any]) -> list[str]:
    """Return the column `options` of a multiple choice: a list of strings."""
    options = columns.get("options")
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options):
        raise ConfigError(
            f"A multiple choice needs the column options, a list of strings; given: {options!r}."
        )
    return options


def expected(task: Task, ref: str, columns: dict[str, Any]) -> str:
    """Return the reference as a class of the task, or as a letter; `ConfigError` if it is
    neither.
    """
    if task.kind == "choice":
        found = parse_choice(ref, options_in(columns))
    else:
        found = parse_class(ref, task.classes)
    if found is None:
        valid = ", ".join(task.classes) or "a letter or the words of one option"
        raise ConfigError(f"The reference {ref!r} is no answer of this task. Expected: {valid}.")
    return found
