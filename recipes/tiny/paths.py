"""The recipe's folders, beside the runs; of their files only the written sentences are in git."""

from pathlib import Path

RUNS = Path("runs/tiny")
CORPUS = RUNS / "corpus"
EVERYDAY = Path(__file__).with_name("everyday.txt")
PROMPTS = Path(__file__).with_name("prompts.tsv")
