"""The pictures of pages in the documents, offline.

python tests/pictures.py docs/images [runs/answers/model runs/questions/held-out-describe-0a.flac]

It traces a sample, evaluates nano on some clips, and photographs both pages as a wide window and as
a phone show them, and the demo. With the model and the clip of chapter 8: the demo that is asked.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import serving
import toys
from browser import PHONE, WIDE, browse, overflow

SIZES = {"wide": WIDE, "phone": PHONE}
COMMANDS = {
    "trace": ("trace", "samples/01.flac", "--model", "nano", "--out", "trace.html"),
    "report": ("eval", "nano", "--dataset", "quickstart", "--max-samples", "100", "--out", "."),
}


def photograph(pages: dict[str, Path], folder: Path) -> list[Path]:
    """Save NAME-wide.png and NAME-phone.png of every page."""
    made = []
    for size, viewport in SIZES.items():
        with browse(viewport) as page:
            for name, path in pages.items():
                page.goto(path.resolve().as_uri())
                made.append(folder / f"{name}-{size}.png")
                page.screenshot(path=made[-1])
                assert overflow(page) <= 0, name
            assert (page.outside, page.complaints) == ([], [])
    return made


def pages_in(folder: Path) -> dict[str, Path]:
    """Make the pages by the commands that readers type."""
    (folder / "samples").symlink_to(toys.REPOSITORY / "samples")
    for arguments in COMMANDS.values():
        subprocess.run([sys.executable, "-m", "tiny_audio", *arguments], cwd=folder, check=True)
    return {name: folder / f"{name}.html" for name in COMMANDS}


def photograph_demo(url: str, path: Path) -> Path:
    """The demo as the guide shows it: a word is being said."""
    with browse({"width": 1280, "height": 640}) as page:
        page.goto(url)
        serving.transcribe(page, toys.REPOSITORY / "samples" / "address-1961.flac")
        page.click(".word >> nth=4")
        page.wait_for_timeout(250)
        page.eval_on_selector("#sound", "sound => sound.pause()")
        page.mouse.move(0, 0)
        page.screenshot(path=path)
    return path


def photograph_asking(url: str, clip: str, folder: Path) -> list[Path]:
    """A task's button was clicked: as a wide window shows it, and as a phone does."""
    made = []
    for size, viewport in SIZES.items():
        with browse(viewport) as page:
            page.goto(url)
            serving.choose(page, clip)
            page.click("#tasks button >> nth=0")
            page.wait_for_selector("#answer:not([hidden])")
            assert overflow(page) <= 0
            made.append(folder / f"demo-ask-{size}.png")
            page.screenshot(path=made[-1], full_page=True)
    return made


if __name__ == "__main__":
    images, *asked = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        made = photograph(pages_in(Path(name)), Path(images))
        demo = serving.demo(name)
        made.append(photograph_demo(demo.url, Path(images) / "demo-transcribe.png"))
        demo.end()
        if asked:
            demo = serving.demo(name, "--model", asked[0])
            made += photograph_asking(demo.url, asked[1], Path(images))
            demo.end()
    print(*made, sep="\n")
