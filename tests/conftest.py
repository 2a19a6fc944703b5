"""What every test may rely on: toys on the path, one thread, no Hub."""

import gc
import itertools
import multiprocessing
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TINY_AUDIO_MODEL"] = "nano"  # loads in a tenth of the time of tiny
os.environ["OMP_NUM_THREADS"] = "1"  # of processes too: two tests run at a time
sys.path.insert(0, str(Path(__file__).parent))

import hypothesis
import pytest
import warm

gc.disable()  # until all is imported: looking for what is never freed is a quarter of that time

hypothesis.settings.register_profile("offline", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("offline")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.hookimpl(trylast=True)  # when it is known which tests run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the pages of the documentation, the longest tests, evenly between other files: each
    worker begins with one part of the list, so one of them would get all pages.
    """
    by_file = [list(of_file) for _, of_file in itertools.groupby(items, lambda item: item.path)]
    pages = [item for item in items if item.path.name == "test_pages.py"]
    files = [of_file for of_file in by_file if of_file[0].path.name != "test_pages.py"]
    dealt, share = list[pytest.Item](), len(pages) / max(1, len(files))
    for number, of_file in enumerate(files):
        dealt += of_file + pages[round(number * share) : round((number + 1) * share)]
    items[:] = dealt or pages


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Public data and models beside the repository (`<repo>/../shared`); not part of it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: public data and models are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def nano():
    """The small model that ships, for tests that leave it as it is."""
    from tiny_audio.infer.transcriber import Transcriber

    return Transcriber.from_pretrained("nano")


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """A `python` for tests that run many commands: it has the imports behind it."""
    own, worker = tmp_path_factory.getbasetemp(), "PYTEST_XDIST_WORKER" in os.environ
    # Workers are children of one process, and their folders lie in one.
    folder, owner = (own.parent, os.getppid()) if worker else (own, os.getpid())
    return str(warm.python(folder / "warm", owner))


@pytest.fixture(scope="session")
def spawns_at_once(python) -> None:
    """Processes that `multiprocessing` spawns have the imports behind them, too."""
    multiprocessing.set_executable(python)
