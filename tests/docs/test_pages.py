"""Every command and every piece of code in the documents is executed; every link leads somewhere.

A page runs from top to bottom in a folder of its own, as a reader would type it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import loopback_hub
import pages
import pytest
from serving import Server
from typer.main import get_command

from tiny_audio.cli import app

pytestmark = pytest.mark.docs
# `uv run X` is X in the environment that is there already; the tests do not run themselves.
UV = """#!/bin/bash
[ "$1" = run ] || exit 0
shift
case "$1" in
  pytest) exit 0 ;;
  tiny-audio) shift; exec PYTHON SHORT "$@" ;;
  python) shift; exec PYTHON "$@" ;;
  *) tool=$1; shift; exec TOOLS/"$tool" "$@" ;;
esac
"""
FEW = "data.sources.clips.limit=300 data.validation.held_out.limit=24"
# What an earlier page of the course leaves behind.
COURSE = "uv run tiny-audio train +experiment=quickstart output=runs/course"
EARLIER = dict.fromkeys(
    ("docs/course/6-evaluation.md", "docs/course/7-serving-and-publishing.md"), COURSE
)
SHORTER = {
    "tiny-audio quickstart": "tiny-audio quickstart --minutes 0.2",
    "+experiment=quickstart": f"+experiment=quickstart {FEW}",
    "+experiment=questions": "+experiment=questions stages.all.steps=60",
    "minutes=0.5": "minutes=0.05",
    "minutes: 0.5": "minutes: 0.05",
}


@pytest.fixture
def reader(tmp_path, monkeypatch, python):
    """Where a reader types: a clone, and a `uv` that is installed."""
    tools, place = tmp_path / "bin", tmp_path / "clone"
    tools.mkdir()
    place.mkdir()
    installed = str(Path(sys.executable).parent)
    (tools / "uv").write_text(
        UV.replace("PYTHON", python)
        .replace("TOOLS", installed)
        .replace("SHORT", str(pages.ROOT / "tests" / "short_quickstart.py"))
    )
    (tools / "uv").chmod(0o755)
    (tools / "pip").write_text("#!/bin/bash\n")
    (tools / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))
    monkeypatch.delenv("TINY_AUDIO_MODEL")  # readers get the default
    monkeypatch.setenv("SPAWNED_PYTHON", python)
    return pages.workplace(place)


def run(block, folder, python):
    code = block.code
    for given, shorter in SHORTER.items():
        code = code.replace(given, shorter)
    command = [python, "-c", code]
    if block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=900, text=True)
    assert done.returncode == 0, f"{block.where}\n{code}\n{done.stdout}\n{done.stderr}"


LISTENING = [p for p in pages.PAGES if any(map(pages.listening, pages.blocks(p)))]
LISTENING.remove("docs/reference/cli.md")  # made from the commands: `tiny-audio serve [OPTIONS]`


@pytest.mark.parametrize("page", LISTENING)
def test_what_listens_answers_what_is_sent_to_it(page, reader, python):
    """A server of a page runs until the next one, on a port that is free here."""
    server = None
    for block in filter(pages.listening, pages.blocks(page)):
        lines = [block.code] if block.language == "python" else block.code.splitlines()
        for line in lines:
            if "tiny-audio serve" in line or "tiny-audio demo" in line:
                if server:
                    end(server)
                server = listening(line, reader)
            else:
                language = "python" if block.language == "python" else "bash"
                code = (
                    line.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}") if server else line
                )
                run(block._replace(language=language, code=code), reader, python)
    end(server)


def listening(line, folder):
    """The command of a page that listens, on a port of its own."""
    line = re.sub(r" --port \d+", "", line.split("#")[0]).strip()
    # `exec`: what is ended is the command itself.
    return Server(command=("bash", "-c", f'exec {line} "$@"', "bash"), folder=folder).ready()


def end(server):
    code, printed = server.end()
    assert code == 0, printed
    assert "Traceback" not in printed


PUBLISHING = "docs/guides/publishing.md"
RUNNABLE = [page for page in pages.PAGES if pages.runnable(page) and page != PUBLISHING]


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_runs_from_top_to_bottom(page, reader, python):
    if page in EARLIER:
        before = f"{EARLIER[page]} stages.projector.minutes=0.5"
        run(pages.Block(f"before {page}", "bash", "", before), reader, python)
    for block in pages.runnable(page):
        run(block, reader, python)


def test_the_publishing_guide_reaches_a_hub(reader, tmp_path, monkeypatch, python):
    """With a Hub on this machine in place of the real one. The client reads its address when it is
    imported, so these commands need a process of their own.
    """
    uv = tmp_path / "bin" / "uv"
    uv.write_text(uv.read_text().replace(python, sys.executable))
    with loopback_hub.served() as (hub, address):
        told = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        told |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_reader"}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        for block in pages.runnable(PUBLISHING):
            run(block, reader, sys.executable)
    files = hub.files("YOUR-NAME/my-recogniser")
    assert {"README.md", "encoder/model.safetensors", "results/1.json"} <= set(files)
    assert files["README.md"] == (reader / "runs" / "nano-hub" / "README.md").read_bytes()


def test_a_broken_command_is_found(reader, python):
    """The test above can fail: one wrong option in a page is enough."""
    block = next(b for b in pages.runnable("README.md") if "transcribe samples" in b.code)
    broken = block._replace(code=block.code.replace("transcribe samples", "transcribe --fast x"))
    with pytest.raises(AssertionError, match="--fast"):
        run(broken, reader, python)


def our_commands(block):
    lines = block.code.replace("\\\n", " ").splitlines()
    typed = r"(?:^|uv run |[|&;] ?)tiny-audio (.*?)(?:  #|[|&;>)]|$)"
    return re.findall(typed, "\n".join(lines), re.M)


def test_commands_that_are_only_shown_exist():
    """`console` blocks need GPUs, accounts or hours; their commands and options are real."""
    known = get_command(app)
    for page in pages.PAGES:
        if page == "docs/reference/cli.md":
            continue  # made from the commands
        for block in pages.blocks(page):
            for said in our_commands(block) if block.language == "console" else []:
                words = said.split()
                command = known.commands.get(words[0])
                assert command, f"{block.where}: tiny-audio has no {words[0]!r}"
                options = {o for p in command.params for o in p.opts + p.secondary_opts}
                options |= {"--help"}
                for sub in getattr(command, "commands", {}).values():
                    options |= {o for p in sub.params for o in p.opts + p.secondary_opts}
                odd = [w for w in words[1:] if re.match(r"--?[a-z]", w) and w not in options]
                assert not odd, f"{block.where}: {words[0]} has no {odd}"


def test_the_command_reference_is_what_the_commands_say(tmp_path):
    made = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "tiny_audio.cli", "utils", "docs"]
    subprocess.run([*command, "--name", "tiny-audio", "--output", made], check=True)
    kept = pages.ROOT / "docs" / "reference" / "cli.md"
    assert kept.read_text() == made.read_text(), "write it anew: see CONTRIBUTING.md"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*pages.PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    path, lost = pages.ROOT / page, []
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        known = not anchor or (there.suffix == ".md" and anchor in anchors(there))
        if not there.exists() or not known:
            lost.append(target)
        elif page.startswith("docs/") and not there.is_relative_to(pages.ROOT / "docs"):
            lost.append(f"{target} (outside of the site)")
    assert not lost


def test_every_decision_is_listed():
    folder = pages.ROOT / "docs"
    listed = re.findall(
        r"\.\./decisions/([^)]+)", (folder / "explanation/decisions.md").read_text()
    )
    assert sorted(listed) == sorted(path.name for path in (folder / "decisions").iterdir())
