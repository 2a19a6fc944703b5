"""Blocks that `test_pages.py` does not execute: each has its reason here, and recipes are composed.

A block added as `console` or `notest` with a command in it fails this test until it is executed, or
until a reason is found that holds for it.
"""

import re
import shlex

import pages
import pytest

from tiny_audio.train.compose import compose_recipe, compose_sweep

# Why blocks with these fragments are not executed. Every fragment is in some block.
REASONS = {
    "needs a part of the Hub, gigabytes of download": (
        'encoder="openai/whisper-small"',
        'encoder="facebook/hubert-large-ls960-ft"',
        "eval hf:openai/whisper-tiny.en",
    ),
    "needs an account of the Hub": ("YOUR-NAME/my-recogniser",),
    "needs a microphone; tests/test_cli.py gives the command the same samples": ("arecord",),
    "needs data beside the repository and minutes to hours": (
        "recipes.tiny.held_out",
        "recipes.nano corpus",
        "train-head whisper_tiny",
    ),
    "is the whole set of tests, or opens a site; .ci/run does it": ("uv run pytest -m long",),
    "needs a script of an earlier course; tests/examples/test_earlier_texts.py runs all of them": (
        "examples/earlier.sed",
    ),
    "needs a scheduler, GPUs or the extra ray; tests/scale runs shards, and Ray on two machines": (
        "#SBATCH --array",
        "--no-python bash -c",
        "--engine ray --workers 64",
    ),
    "needs a checkout without changes; tests/evaluate/test_leaderboard.py submits": (
        "leaderboard submit runs/board",
    ),
    "needs a file of yours": (
        "interview.mkv",
        "adapt --data mine.jsonl",
        "--audio a.mp3",
    ),
    "needs fluidsynth, and minutes; tests/recipes/test_music.py tests the pieces": (
        "uv run python -m recipes.music",
    ),
    "needs the extra onnx; tests/export checks the graph": ("export tiny --to onnx",),
    "the index of CPU builds is not reachable from every machine that runs the tests": (
        "--torch-backend cpu",
    ),
    "needs GPUs; the recipe is composed below": (
        "~data.sources.librispeech",
        "\nuv run tiny-audio train +experiment=whisper_swiglu_smollm3\n",
        "--nproc-per-node 8 -m tiny_audio train +experiment=whisper_swiglu_smollm3",
        "--nnodes 2",
    ),
}
COMMAND = re.compile(r"(?:uv run |tiny-audio |pip |torchrun |curl |arecord |git |sed |poetry )")


def shown_only():
    """Blocks with commands or code that a reader would type, and that no test executes."""
    for page in pages.PAGES:
        if page == "docs/reference/cli.md":
            continue  # made from the commands
        for block in pages.blocks(page):
            typed = block.language == "console" and re.search(
                rf"^{COMMAND.pattern}", block.code, re.M
            )
            if (typed or block.info == "notest") and not pages.listening(block):
                yield block


def test_every_block_that_is_not_executed_has_a_reason():
    fragments = {one: reason for reason, found in REASONS.items() for one in found}
    used = set()
    for block in shown_only():
        code = f"\n{block.code}\n"
        mine = {fragment for fragment in fragments if fragment in code}
        assert mine, f"{block.where} is not executed, and no reason is given:\n{block.code}"
        used |= mine
    assert used == set(fragments), "these reasons are of no block"


def recipes():
    """The arguments of every training command that is shown, on one line each."""
    for block in shown_only():
        for line in block.code.replace("\\\n", " ").splitlines():
            found = re.search(r"tiny[-_]audio train (?!-head)(.*?)(?:\s+#.*)?$", line)
            if found and "runs/mine/recipe.yaml" not in line:
                yield pytest.param(shlex.split(found[1]), id=f"{block.where} {found[1][:40]}")


@pytest.mark.parametrize("arguments", recipes())
def test_every_recipe_that_is_shown_can_be_composed(arguments):
    if arguments[0] == "-m":
        assert len(compose_sweep(arguments[1:])) == 4
    else:
        assert compose_recipe(arguments).stages
