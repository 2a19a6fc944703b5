"""Where the recipe keeps its files: beside the runs, never in git."""

from pathlib import Path

RUNS = Path("runs/tiny")
CORPUS = RUNS / "corpus"
