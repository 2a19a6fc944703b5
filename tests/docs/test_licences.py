"""The pages about licences name what an installation brings, and what asks for more."""

import re
import runpy
from importlib.metadata import distributions

import pages

PAGE = pages.ROOT / "docs" / "explanation" / "licences.md"
ASKS_FOR_MORE = re.compile(r"GPL|MPL|Mozilla|NVIDIA|Proprietary|EULA|SSPL|Commons-Clause", re.I)


def test_every_locked_library_is_on_the_page():
    made = runpy.run_path(str(pages.ROOT / ".ci" / "licences.py"), run_name="licences")
    packages = made["locked"]()
    ours = packages["tiny-audio"]
    wanted = [d for group in ours["optional-dependencies"].values() for d in group]
    names = made["needed"](packages, ours["dependencies"] + wanted)
    assert {"torch", "numpy", "fastapi", "ray", "onnxruntime"} <= names
    text = (pages.ROOT / "docs" / "reference" / "licences.md").read_text()
    lost = [
        name for name in names if f"| {name} | {packages[name].get('version', '')} |" not in text
    ]
    assert not lost, "write it anew: uv run python .ci/licences.py"


def licence_of(distribution) -> str:
    """What a package says: an SPDX expression, the first line of a text, or classifiers."""
    about = distribution.metadata
    kinds = [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    said = about.get("License-Expression") or (about.get("License") or "").split("\n")[0]
    return " ".join([said, *kinds])


def test_every_package_whose_licence_asks_for_more_than_a_notice_is_named():
    page = PAGE.read_text()
    found = {one.metadata["Name"]: licence_of(one) for one in distributions()}
    asks = {name for name, said in found.items() if ASKS_FOR_MORE.search(said)}
    assert "soxr" in asks  # the metadata are read
    missing = {n for n in asks if f"`{n}`" not in page and not n.startswith("nvidia-")}
    assert not missing, {name: found[name] for name in missing}
