"""A toy checkpoint, clips, and this folder on the path: files of it import one another."""

import sys
from pathlib import Path

import pytest
import toy_runs
import toys

from tiny_audio.model.saving import save

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A toy nano, whole."""
    return save(toys.toy_preset("nano").build(), tmp_path_factory.mktemp("toy") / "m", whole=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The manifest of eight clips."""
    return toy_runs.manifest(tmp_path_factory.mktemp("clips"))
