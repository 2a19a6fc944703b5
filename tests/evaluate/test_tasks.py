"""Tasks are files: a new file is a new task, and every one can be asked and read."""

import json

import pytest

from tiny_audio.evaluate import tasks
from tiny_audio.evaluate.tasks import FOLDER, TASKS, read, tasks_in
from tiny_audio.model.errors import ConfigError

NAMED = "transcription describe emotion age gender instrument key tempo drums structure lyrics"
CLASSES = {name: one for name, one in TASKS.items() if one.kind == "classification"}


def test_a_new_file_is_a_new_task(tmp_path, monkeypatch):
    for path in FOLDER.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weather = {
        "kind": "classification",
        "prompts": ["Is it raining?"],
        "classes": {"yes": [], "no": []},
    }
    (tmp_path / "weather.json").write_text(json.dumps(weather))
    found = tasks_in(tmp_path)
    assert set(found) == {*TASKS, "weather"}
    monkeypatch.setattr(tasks, "TASKS", found)
    assert read(tasks.task("weather"), "Yes.", {}) == "yes"
    (tmp_path / "weather.json").write_text('{"kind": "classification", "prompt": "?"}')
    with pytest.raises(ConfigError, match="0 classes"):
        tasks_in(tmp_path)


def test_the_tasks_of_the_systems_are_there():
    assert {*NAMED.split(), "choice", "faster", "count", "music"} <= set(TASKS)
    assert all(len(set(one.prompts)) > 1 for one in CLASSES.values())


@pytest.mark.parametrize("name", CLASSES)
def test_every_answer_that_a_task_offers_is_read_as_itself(name):
    task = CLASSES[name]
    for label, ways in task.classes.items():
        for way in (label, label.replace("_", " "), *ways):
            assert read(task, way, {}) == label, way
    assert read(task, ", ".join(task.classes), {}) is None
    assert read(task, "", {}) is None
