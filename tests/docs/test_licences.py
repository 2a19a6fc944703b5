"""The page of licences names every library that an installation brings."""

import runpy

import pages


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
