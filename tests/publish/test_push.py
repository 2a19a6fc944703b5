"""Push, die, push again, load: against a Hub on this machine, with the real client."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import loopback_hub
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import pipeline
from typed import typed

from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.configuration import CODE
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.generation import token_limit
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.presets import load
from tiny_audio.publish.upload import refuse_foreign_account

PUSH = "from tiny_audio.cli import main; main()"
# A process in which neither Tiny Audio nor an extra of it is installed.
ALONE = "import sys\nfor name in ('tiny_audio', 'av', 'peft', 'gguf'): sys.modules[name] = None\n"
AUTO = """
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained(ID, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(ID, trust_remote_code=True)
batch = processor(audio=[CLIP])
stop = dict(eos_token_id=processor.stop_ids(), pad_token_id=processor.pad_id)
tokens = model.generate(**batch, max_new_tokens=LIMIT, do_sample=False, **stop)
new = tokens[0, batch["input_ids"].shape[1]:]
print("TEXT", processor.tokenizer.decode(new, skip_special_tokens=True).strip())
"""
PIPE = """
from transformers import pipeline
print("TEXT", pipeline("automatic-speech-recognition", model=ID, **OPTIONS)(CLIP)["text"])
"""
OURS = """
import tiny_audio
from tiny_audio.presets import checkpoint
print("FOLDER", checkpoint.checkpoint_folder(ID))
transcriber = tiny_audio.Transcriber(tiny_audio.load(ID))
print("TEXT", transcriber.transcribe(CLIP, min_logprob=None).text)
"""
WAYS = {
    "load": OURS,
    "Auto classes and the carried files": ALONE + AUTO,
    "pipeline after import tiny_audio": "import tiny_audio\nOPTIONS = {}" + PIPE,
}


def environment(address, home, token="hf_ada"):
    """Of a process that knows this Hub and no other. Xet is another protocol, spoken to
    huggingface.co alone: with it switched off the client sends by Git LFS."""
    told = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    told |= {"HF_HUB_OFFLINE": "0", "HF_TOKEN": token, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **told}


def start(code, where, *words):
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(
        command, env=where, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(process):
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


@pytest.fixture(scope="module")
def published(trained, tmp_path_factory):
    """A model pushed by a process that dies after its first large file, and by a second one."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out") / "hub"
    words = ["push", *trained.options("--repo", "ada/toy", "--result", str(trained.result))]
    words += ["--out", str(folder), "--full"]
    with loopback_hub.served() as (hub, address):
        where = environment(address, home)
        hub.held_after = 1
        first = start(PUSH, where, *words)
        assert hub.holding.wait(300), ended(first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        hub.held_after = None
        hub.release.set()
        between = (dict(hub.objects), dict(hub.files("ada/toy")))
        again = ended(start(PUSH, where, *words))
        yield hub, address, folder, between, again


@pytest.mark.slow
def test_a_killed_push_goes_on_and_shows_nothing_before_its_end(published):
    hub, _, folder, (objects, files), (code, said, error) = published
    assert code == 0, error
    assert len(objects) >= 1
    assert files == {}, "nothing is seen before the commit"
    for sha in objects:
        assert hub.puts.count(sha) == 1, "what had arrived was sent again"
    assert said.strip().splitlines()[-1].endswith(hub.head("ada/toy"))
    here = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".tiny-audio-bundle"
    }
    assert hub.files("ada/toy") == here
    assert hub.repos["ada/toy"]["private"]
    assert {"README.md", "golden.safetensors", "run/recipe.yaml", "results/1.json"} <= set(here)


def written_by(model, clip, limit):
    """What AUTO does, by classes of this process."""
    processor = AudioProcessor(model.tokenizer, model.config)
    batch = processor(audio=[str(clip)])
    stop = {"eos_token_id": processor.stop_ids(), "pad_token_id": processor.pad_id}
    tokens = model.generate(**batch, max_new_tokens=limit, do_sample=False, **stop)
    new = tokens[0, batch["input_ids"].shape[1] :]
    return processor.tokenizer.decode(new, skip_special_tokens=True).strip()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_was_pushed_is_loaded_in_a_clean_process(way, published, trained, tmp_path):
    hub, address, *_ = published
    limit = token_limit(soundfile.info(trained.clip).duration)
    code = f"ID, CLIP, LIMIT = 'ada/toy', {str(trained.clip)!r}, {limit}\n{WAYS[way]}"
    done, said, error = ended(start(code, environment(address, tmp_path)))
    assert done == 0, error
    told = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    local = str(trained.run / "model")
    if "carried" in way:
        assert told["TEXT"] == written_by(load(local), trained.clip, limit)
        return
    if way != "load":
        hear = pipeline("automatic-speech-recognition", model=local)
        assert told["TEXT"] == hear(str(trained.clip))["text"]
        return
    heard = Transcriber.from_pretrained(local).transcribe(trained.clip, min_logprob=None)
    assert told["TEXT"] == heard.text
    folder = Path(told["FOLDER"])
    assert not list(folder.glob("*.py")), "we download no code"
    golden = load_file(folder / "golden.safetensors")
    assert (folder / "golden.safetensors").read_bytes() == hub.files("ada/toy")[
        "golden.safetensors"
    ]
    for stage, kept in load_file(trained.run / "model" / "golden.safetensors").items():
        torch.testing.assert_close(golden[stage], kept, rtol=1e-5, atol=1e-5)


def test_no_path_of_the_machine_is_published(trained, tmp_path):
    options = trained.options("--repo", "ada/toy", "--dry-run", "--out", str(tmp_path / "hub"))
    done = typed("push", *options)
    assert done.exit_code == 0, done.output
    assert "Nothing was uploaded" in done.output
    for path in (tmp_path / "hub").rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml", ".md"):
            text = path.read_text()
            assert "/tmp" not in text, path
            assert str(trained.run.parent) not in text, path
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config[CODE]["AutoModel"].startswith("checkpoint.")
    again = typed("push", *options)
    assert again.exit_code == 0, "a folder of ours is written anew"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    options[-1] = str(tmp_path / "other")
    refused = typed("push", *options)
    assert refused.exit_code == 2
    assert "holds other files" in refused.output
    assert (tmp_path / "other" / "mine.txt").exists()


class Account:
    """The one call of the client that says whose token it is."""

    def whoami(self):
        orgs = [
            {"name": "readers", "roleInOrg": "write"},
            {"name": "watchers", "roleInOrg": "read"},
        ]
        return {"name": "ada", "orgs": orgs}


def test_only_the_token_s_own_accounts_are_written_to():
    for own in ("ada/toy", "readers/toy"):
        refuse_foreign_account(Account(), own)
    for foreign in ("grace/toy", "watchers/toy"):
        with pytest.raises(ConfigError, match=f"may not publish as {foreign.split('/')[0]}"):
            refuse_foreign_account(Account(), foreign)
    for wrong in ("toy", "a/b/c", "/toy"):
        with pytest.raises(ConfigError, match="no NAME/REPOSITORY"):
            refuse_foreign_account(Account(), wrong)


@pytest.mark.slow
def test_a_pipeline_of_the_carried_files_says_what_it_needs(published, trained, tmp_path):
    _, address, *_ = published
    code = f"ID, CLIP = 'ada/toy', {str(trained.clip)!r}\nOPTIONS = {{'trust_remote_code': True}}"
    done, _, error = ended(start(ALONE + code + PIPE, environment(address, tmp_path)))
    assert done == 1
    assert "Type: pip install tiny-audio" in error


@pytest.mark.slow
def test_a_public_or_foreign_repository_is_refused(published, trained, tmp_path):
    hub, address, *_ = published
    hub.repos["ada/open"] = {"private": False, "commits": []}
    hub.repos["ada/poems"] = {"private": True, "commits": [("1" * 40, {"poem.txt": b"o"})]}
    told = {"ada/open": "is there and public", "ada/poems": "something other than a model of ours"}
    told["grace/toy"] = "may not publish as grace"
    for repo, said in told.items():
        words = ["push", *trained.options("--repo", repo, "--out", str(tmp_path / "o"))]
        code, _, error = ended(start(PUSH, environment(address, tmp_path), *words))
        assert (code, said in error) == (2, True), error
        assert repo not in hub.repos or "config.json" not in hub.files(repo)


def test_a_result_of_another_model_has_no_place_on_the_card(trained, tmp_path):
    options = ["--dry-run", "--licence", "model=mit", "--out", tmp_path / "o"]
    done = typed("push", "nano", "--repo", "ada/x", *options, "--result", trained.result)
    assert done.exit_code == 2
    assert "is of another model (toy)" in " ".join(done.output.split())
