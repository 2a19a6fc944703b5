"""The training commands, in this process: exit codes, messages, and what they print."""

import subprocess
import sys

import pytest
import toy_runs
import yaml
from typed import typed

SAID_WRONG = [
    (["train", "+experiment=quickstrt"], "Did you mean 'quickstart'?"),
    (["train", "+experiment=quickstart", "stages.projector.minuts=1"], "'minutes'"),
    (["train", "+experiment=quickstart", "data.batch_s=long"], "DataConfig.batch_s is 'long'"),
    (["train", "nowhere/recipe.yaml"], "no recipe nowhere/recipe.yaml"),
    (["plan", "quickstart", "--memory", "24 apples"], "24 apples"),
    (["doctor", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), SAID_WRONG)
def test_wrong_use_exits_with_2_and_says_why(arguments, message):
    done = typed(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("library", ["yaml", "matplotlib", "rapidfuzz"])
def test_a_missing_extra_is_named_before_work_begins(library, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)  # what an import then meets
    for words in (["quickstart"], ["train-head", "nano", "--data", tmp_path]):
        done = typed(*words, "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert f"{words[0]} needs an extra. Type: pip install 'tiny-audio[train]'" in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_import_while_the_command_does():
    """The server from which a run's processes are forked starts before torch is loaded here."""
    code = (
        "import sys; sys.argv = ['tiny-audio', *{!r}]\n"
        "import tiny_audio.cli, tiny_audio.commands.train as train\n"
        "def begin(): print('torch' in sys.modules); sys.exit(7)\n"
        "train.import_ahead = begin\n"
        "tiny_audio.cli.main()"
    )
    for words in (["quickstart"], ["train", "--processes", "2", "+experiment=quickstart"]):
        done = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True)
        assert (done.returncode, done.stdout) == (7, b"False\n"), done.stderr.decode()


@pytest.mark.slow
def test_train_repeats_a_recipe(tmp_path):
    folder = tmp_path / "given"
    given = toy_runs.validated(toy_runs.recipe(folder, steps=2))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(given.to_dict()))
    done = typed("train", path)
    assert done.exit_code == 0, done.output
    assert (folder / "run" / "model" / "config.json").exists()
    assert (folder / "run" / "result.json").exists()
    said = typed("doctor", folder / "run")
    assert said.exit_code in (0, 1)
    assert said.stdout.strip()


@pytest.mark.slow
def test_sweeps_run_all_combinations(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(toy_runs.recipe(tmp_path, steps=2).to_dict()))
    swept = typed("train", "-m", path, "seed=0,1", f"output={tmp_path / 'swept'}")
    assert swept.exit_code == 0, swept.output
    assert sorted(p.name for p in (tmp_path / "swept").iterdir()) == ["seed=0", "seed=1"]


@pytest.mark.slow
def test_plan_needs_no_download(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = typed("plan", "hubert_lora", "--memory", "80GB")
    assert done.exit_code == 0, done.output
    for number in ("1,966,080", "15,335,424", "138,422,528"):
        assert number in done.stdout
