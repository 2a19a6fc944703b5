"""The notebook runs from top to bottom, as a learner runs it, in less of its time."""

import os

import nbformat
import pages
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.docs
NOTEBOOK = pages.ROOT / "notebooks" / "first-steps.ipynb"


def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch, python):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without its outputs"
    monkeypatch.setenv("TINY_AUDIO_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("TINY_AUDIO_MINUTES", "0.2")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "tiny-audio"
    command.write_text(f'#!/bin/sh\nexec {python} {pages.ROOT}/tests/short_quickstart.py "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("SPAWNED_PYTHON", python)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))
    folder = {"metadata": {"path": NOTEBOOK.parent}}
    done = NotebookClient(notebook, timeout=900, kernel_name="python3", resources=folder).execute()
    said = "".join(
        str(output.get("text", "")) for cell in done.cells for output in cell.get("outputs", [])
    )
    assert "samples_N" in said
    assert (tmp_path / "run" / "trace.html").stat().st_size > 100_000
