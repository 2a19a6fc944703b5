"""`tiny-audio` as it is, but for a quickstart on a part of its clips.

CI takes the quickstart's three minutes once; in the documents it is one command among many.
"""

import importlib
import multiprocessing
import os
from dataclasses import replace

from tiny_audio.cli import main
from tiny_audio.train import experiments

module = importlib.import_module("tiny_audio.train.quickstart")


def recipe():
    """The quickstart's own, on 300 of its clips, scored on 24."""
    whole = experiments.quickstart()
    own = whole.data
    few = {"clips": replace(own.sources["clips"], limit=300)}
    held_out = {"held_out": replace(own.validation["held_out"], limit=24)}
    return replace(whole, data=replace(own, sources=few, validation=held_out))


if __name__ == "__main__":
    module.recipe_of = recipe
    multiprocessing.set_executable(os.environ["SPAWNED_PYTHON"])
    main()
