"""The README is executed: its Python runs, its commands exist, its links lead somewhere."""

import re
import shlex
import subprocess
import sys

import pytest
import toys

README = (toys.REPOSITORY / "README.md").read_text()
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_python_blocks_of_the_readme_run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=toys.REPOSITORY, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_commands_of_the_readme_run():
    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    ours = [line.split("#")[0] for line in lines if "tiny-audio transcribe" in line]
    assert ours, "the README shows no command"
    for line in ours:
        here = f"{shlex.quote(sys.executable)} -m tiny_audio"
        shell = line.replace("pip install uv && ", "").replace("uv run tiny-audio", here)
        done = subprocess.run(
            ["bash", "-c", shell], cwd=toys.REPOSITORY, capture_output=True, timeout=120
        )
        assert done.returncode == 0, (line, done.stderr.decode())
        assert done.stdout.strip(), line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_to_files(name):
    text = (toys.REPOSITORY / name).read_text()
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    missing = [target for target in targets if not (toys.REPOSITORY / target).exists()]
    assert not missing
