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
    """One task, as its file in `task_files/` says. `classes` are of a classification; `slots` (name
    → classes) of captions. The kind decides the parser, the metric and the controls.
    """

    kind: Kind
    target: str = "text"  # the column with the right answer, unless a data set calls it otherwise
    prompt: str = ""  # asked in evaluation; "": the model's own instruction
    prompts: tuple[str, ...] = ()  # ways to ask it, of which training takes one at random
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


FOLDER = Path(__file__).with_name("task_files")


def tasks_in(folder: Path) -> dict[str, Task]:
    """Return the tasks of a folder by name: one file each, and nothing else to change for one."""
    return {path.stem: read_task(path) for path in sorted(folder.glob("*.json"))}


def task(name: str) -> Task:
    """Return a task by name, or from a JSON file with the fields of `Task`."""
    if name in TASKS:
        return TASKS[name]
    path = Path(name)
    if path.suffix != ".json" or not path.is_file():
        raise ConfigError.unknown(name, TASKS, "The list of tasks (or a .json file)")
    return read_task(path)


def read_task(path: Path) -> Task:
    """Read a task's file."""
    try:
        return Task.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no JSON ({error}).") from error


TASKS: dict[str, Task] = tasks_in(FOLDER)


def question(options: list[str]) -> str:
    """Return the options of a multiple choice as they are printed below its question."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([*lines, "Answer with the letter only."])


def read(task: Task, answer: str | None, columns: dict[str, Any]) -> str | None:
    """Return the class or letter that an answer commits to; None if it is unparsed or failed."""
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
    """Return the reference as a class or a letter; `ConfigError` if it is neither."""
    if task.kind == "choice":
        found = parse_choice(ref, options_in(columns))
    else:
        found = parse_class(ref, task.classes)
    if found is None:
        valid = ", ".join(task.classes) or "a letter or the words of one option"
        raise ConfigError(f"The reference {ref!r} is no answer of this task. Expected: {valid}.")
    return found
