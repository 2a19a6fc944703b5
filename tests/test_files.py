"""What is written is there whole or not at all, and a folder belongs to one run at a time."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from recipes.nano.shards import open_store, write_shard
from tiny_audio.commands.outputs import places, stem
from tiny_audio.data.examples import SourceConfig
from tiny_audio.evaluate.evaluator import RunConfig
from tiny_audio.evaluate.grid import run_grid
from tiny_audio.files import (
    LOCK,
    held,
    joined,
    read_json,
    whole,
    write_json,
    write_text,
)
from tiny_audio.model.errors import ConfigError
from tiny_audio.train import experiments
from tiny_audio.train.folder import remember
from tiny_audio.train.head import FROZEN, chosen_model, train_head
from tiny_audio.train.quickstart import quickstart
from tiny_audio.train.recipe import HeadRecipe
from tiny_audio.train.run import train
from tiny_audio.train.track import read_metrics


def test_lines_are_utf_8_and_lines_whatever_is_in_them(tmp_path):
    """Also where the system writes another encoding, and with what Unicode calls ends of lines."""
    rows = [
        {"stage": "a", "step": 1, "text": "žluť\u2028\x85\x0c\nž"},
        {"step": 2, "text": "\udc80"},
    ]
    code = (
        "import json, sys; from pathlib import Path; from tiny_audio.files import append_json\n"
        "for row in json.loads(sys.argv[2]): append_json(Path(sys.argv[1]), row)"
    )
    path = tmp_path / "metrics.jsonl"
    settings = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(path), json.dumps(rows)]
    subprocess.run(command, env=os.environ | settings, check=True)
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == rows
    assert read_metrics(tmp_path) == rows


@contextmanager
def full_disk():
    """No file of this process can grow, as when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["a.txt", "x" * 256, "no/such/folder.txt", "nul\0.txt"])
def test_what_cannot_be_written_leaves_nothing_and_what_was_there(tmp_path, name):
    (tmp_path / "a.txt").write_text("before")
    with full_disk() if name == "a.txt" else nullcontext(), pytest.raises((OSError, ValueError)):
        write_text(tmp_path / name, "after")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


@pytest.mark.parametrize("name", ["a.txt", "no/such/folder.txt"])
def test_an_error_of_the_system_names_the_file_that_was_meant(tmp_path, name):
    with (
        full_disk() if name == "a.txt" else nullcontext(),
        pytest.raises(OSError, match=r"large|No such") as caught,
    ):
        write_text(tmp_path / name, "after")
    assert caught.value.filename == str(tmp_path / name)


def test_a_writer_that_fails_midway_leaves_nothing(tmp_path):
    def write():
        with whole(tmp_path / "a.bin") as fresh:
            fresh.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert not list(tmp_path.iterdir())


def test_the_longest_name_and_one_that_is_not_utf_8_are_written(tmp_path):
    for name in ("x" * 255, os.fsdecode(b"caf\xe9.txt")):
        write_json(tmp_path / name, {"file": name})
        assert read_json(tmp_path / name, "") == {"file": name}


@pytest.mark.parametrize("written", ["", '{"a": 1', "[1]", "\xff", "[" * 100_000, "null"])
def test_damaged_json_is_a_sentence_with_the_cure(tmp_path, written):
    (tmp_path / "a.json").write_bytes(written.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.json .* Delete it\."):
        read_json(tmp_path / "a.json", "Delete it.")


def test_a_shard_that_cannot_be_finished_is_not_there(tmp_path):
    row = {"text": "x", "kind": "", "speaker": ""}
    with full_disk(), pytest.raises(OSError, match="too large"):
        write_shard(tmp_path, 0, [np.ones(9, np.int16)], [row])
    assert open_store(tmp_path) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a/clip.mp3", "clip"),
        ("Clip.WAV", "Clip"),
        ("Interview v1.2 part", "Interview v1.2 part"),
        ("Interview v1.2 part.m4a", "Interview v1.2 part"),
        ("talk.final", "talk.final"),
        (".mp3", ".mp3"),
        ("-", "stdin"),
    ],
)
def test_a_name_loses_the_ending_of_its_sound_and_nothing_else(given, kept):
    assert stem(given) == kept


def test_files_without_a_place_of_their_own_are_named_and_the_others_have_one(tmp_path):
    files = ["a.wav", "b/a.mp3", "x" * 250 + ".ogg", "x" * 251 + ".ogg", "-"]
    found = places(files, ".json", tmp_path / "new" / "folder")
    paths = [one.name for one in found if not isinstance(one, ConfigError)]
    assert paths == ["a.json", "x" * 250 + ".json", "stdin.json"]
    assert "a.json is the text of a.wav" in str(found[1])
    assert "255 bytes" in str(found[3])
    write_text(tmp_path / "file", "")
    with pytest.raises(ConfigError, match="cannot be made"):
        places(files, ".txt", tmp_path / "file" / "folder")


HOLD = """
import sys, time
from pathlib import Path
from tiny_audio.files import held, joined
with {kind}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder, kind="held"):
    """A process that has the folder, or has joined the run that had it, until it is killed."""
    command = [sys.executable, "-c", HOLD.format(kind=kind), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_is_refused_while_another_process_lives_and_free_after_kill_9(tmp_path):
    with another_process(tmp_path) as other:
        message = f"in use by another run .process {other.pid}"
        with pytest.raises(ConfigError, match=message), held(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with held(tmp_path), held(tmp_path):  # a run within the run
            pass


def test_a_folder_is_not_free_while_a_process_of_its_run_lives(tmp_path):
    with held(tmp_path), joined(tmp_path):
        pass
    refused = pytest.raises(ConfigError, match="in use")
    with another_process(tmp_path, "joined"), refused, held(tmp_path):
        pass
    with held(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text()) == os.getpid()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), held(tmp_path / "file" / "run"):
        pass


def test_every_kind_of_run_refuses_a_folder_in_use(tmp_path):
    recipe = replace(experiments.quickstart(), output=str(tmp_path))
    asked = HeadRecipe(
        model=chosen_model("nano"), data=recipe.data, output=str(tmp_path), stage=FROZEN
    )
    config = RunConfig(name="x", source=SourceConfig(path="x.jsonl"))
    with another_process(tmp_path):
        for begin in (
            lambda: train(recipe),
            lambda: train_head(asked),
            lambda: quickstart(tmp_path, minutes=1, fresh=True),
            lambda: run_grid(None, config, [], tmp_path),
        ):
            with pytest.raises(ConfigError, match="in use by another run"):
                begin()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("damaged", ["", "stages: [", "7", "\xff"])
def test_a_damaged_recipe_is_a_sentence_with_the_cure(tmp_path, damaged):
    (tmp_path / "recipe.yaml").write_bytes(damaged.encode("latin-1"))
    recipe = replace(experiments.quickstart(), output=str(tmp_path))
    if damaged:
        with pytest.raises(ConfigError, match=r"(?s)recipe\.yaml .* Delete this file"):
            remember(recipe, tmp_path)
    else:
        assert remember(recipe, tmp_path).output == str(tmp_path)
