"""The pictures of pages in the documents: `uv run python tests/pictures.py docs/images`, offline.

It traces a sample, evaluates nano on some clips, and photographs both pages as a wide window and as
a phone show them. The picture of the demo is made by `tests/demoing.py`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import browser
import toys

SIZES = {"wide": browser.WIDE, "phone": browser.PHONE}
COMMANDS = {
    "trace": ("trace", "samples/01.flac", "--model", "nano", "--out", "trace.html"),
    "report": ("eval", "nano", "--dataset", "quickstart", "--max-samples", "100", "--out", "."),
}


def photograph(pages: dict[str, Path], folder: Path) -> list[Path]:
    """Save NAME-wide.png and NAME-phone.png of every page."""
    made = []
    for size, viewport in SIZES.items():
        with browser.browse(viewport) as page:
            for name, path in pages.items():
                page.goto(path.resolve().as_uri())
                made.append(folder / f"{name}-{size}.png")
                page.screenshot(path=made[-1])
                assert browser.overflow(page) <= 0, name
            assert (page.outside, page.complaints) == ([], [])
    return made


def pages_in(folder: Path) -> dict[str, Path]:
    """Make the pages by the commands that readers type."""
    (folder / "samples").symlink_to(toys.REPOSITORY / "samples")
    for arguments in COMMANDS.values():
        subprocess.run([sys.executable, "-m", "tiny_audio", *arguments], cwd=folder, check=True)
    return {name: folder / f"{name}.html" for name in COMMANDS}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for path in photograph(pages_in(Path(name)), Path(sys.argv[1])):
            print(path)
