"""The documents as a reader meets them: README, CONTRIBUTING and every page of the site."""

import re
from pathlib import Path
from typing import NamedTuple

import toys

ROOT = toys.REPOSITORY
# Records of what was decided, not instructions: their commands belong to their day.
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if "decisions" not in path.parts
]
FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block: where it stands, and what is in it."""

    where: str
    language: str
    info: str  # what stands behind the language: "notest" is shown, not run
    code: str


def blocks(page: str) -> list[Block]:
    text, found = (ROOT / page).read_text(), []
    for match in FENCE.finditer(text):
        indent, language, info, code = match.groups()
        line = text[: match.start()].count("\n") + 1
        code = "\n".join(one.removeprefix(indent) for one in code.splitlines())
        found.append(Block(f"{page}:{line}", language, info.strip(), code))
    return found


def runnable(page: str) -> list[Block]:
    """Bash and Python that must work here and now; `console` and `notest` are shown only."""
    return [b for b in blocks(page) if b.language in ("bash", "python") and b.info != "notest"]


def listening(block: Block) -> bool:
    """Tell whether a block that is only shown starts a server, or sends something to it."""
    shown = block.language == "console" or block.info == "notest"
    return shown and bool(re.search(r"tiny-audio (?:serve|demo)\b|127\.0\.0\.1:8000", block.code))


def workplace(folder: Path) -> Path:
    """A folder as a fresh clone is, but for what commands leave behind in it. Frames of clips that
    were listened to before, by a quickstart here or for another page, are found again."""
    frames = ROOT / "runs" / "frames"
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "runs", "site"):
            (folder / path.name).symlink_to(path)
    frames.mkdir(parents=True, exist_ok=True)
    (folder / "runs").mkdir()
    (folder / "runs" / "frames").symlink_to(frames)
    return folder
