"""The README is executed: its Python runs, its commands exist, its links lead somewhere."""

import re
import shlex
import subprocess
import sys

import pytest
import torch
import toys

from tiny_audio.model.checkpoint import load
from tiny_audio.model.encoder import ENCODERS, WaveformFrames
from tiny_audio.model.saving import save

README = (toys.REPOSITORY / "README.md").read_text()
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/guides/training.md"]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_python_blocks_of_the_readme_run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=toys.REPOSITORY, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the samples, for the commands of all documents: later ones find the frames."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "samples").symlink_to(toys.REPOSITORY / "samples")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/guides/training.md"])
def test_commands_run_one_after_another(name, workplace):
    text = (toys.REPOSITORY / name).read_text()
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    ours = [line.split("  #")[0] for line in lines if "tiny-audio" in line]
    assert ours, "it shows no command"
    for line in ours:
        here = f"{shlex.quote(sys.executable)} -m tiny_audio"
        shell = line.replace("pip install uv && ", "").replace("uv run tiny-audio", here)
        # .ci/run takes its three minutes; here it is one command among many
        shell = shell.replace("tiny_audio quickstart", "tiny_audio quickstart --minutes 0.3")
        done = subprocess.run(
            ["bash", "-c", shell], cwd=workplace, capture_output=True, timeout=600
        )
        assert done.returncode == 0, (line, done.stderr.decode())
        if "transcribe samples/*" in line:
            assert done.stdout.decode().splitlines() == [text for _, text in toys.samples()]


def test_an_encoder_is_added_in_one_line(monkeypatch, tmp_path):
    """CONTRIBUTING's example: a model of transformers, one line in the table."""
    name = "unispeech-sat"
    assert f"`{name}`" in (toys.REPOSITORY / "CONTRIBUTING.md").read_text()
    monkeypatch.setitem(ENCODERS, name, WaveformFrames)
    monkeypatch.setitem(toys.ENCODERS, name, {"model_type": name, **toys.WAVEFORM})
    model = toys.toy_preset("whisper_tiny").with_sources(toys.encoder_folder(name)).build()
    clips = toys.clips(9_000, 400, 23_456)
    together, lengths_B = model.encoder(model.encoder.features(clips))
    for row, length, clip in zip(together, lengths_B.tolist(), clips, strict=True):
        assert length == model.config.encoder.frames_for(len(clip))
        alone = model.encode(clip, 16_000)[0]
        torch.testing.assert_close(row[:length], alone, rtol=1e-4, atol=1e-5)
    loaded = load(save(model, tmp_path / "saved", whole=True))
    assert torch.equal(loaded.encode(clips[0], 16_000), model.encode(clips[0], 16_000))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_to_files(name):
    text = (toys.REPOSITORY / name).read_text()
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    folder = (toys.REPOSITORY / name).parent
    missing = [target for target in targets if not (folder / target).exists()]
    assert not missing
