"""What every test may rely on: toys on the path, one thread, no Hub."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("offline", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("offline")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Public data and models beside the repository (`<repo>/../shared`); not part of it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: public data and models are not part of the repository")
    return SHARED
