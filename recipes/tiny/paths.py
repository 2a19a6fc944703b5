"""Where the recipe keeps its files: beside the runs, never in git, but for what was written."""

from pathlib import Path

RUNS = Path("runs/tiny")
CORPUS = RUNS / "corpus"
EVERYDAY = Path(__file__).with_name("everyday.txt")
PROMPTS = Path(__file__).with_name("prompts.tsv")
