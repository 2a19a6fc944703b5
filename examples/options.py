"""What every exercise can be told: which file, which scale, where to draw."""

import argparse
from pathlib import Path


def options(description: str, scales: bool = True) -> argparse.Namespace:
    """`--file`, `--out` and, for exercises that run twice, `--scale nano|true|both`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--file", default="samples/01.flac", help="an audio file")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for pictures")
    if scales:
        parser.add_argument("--scale", choices=("nano", "true", "both"), default="both")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def title(text: str) -> None:
    """A heading between two lines."""
    print(f"\n{'=' * 64}\n{text}\n{'=' * 64}")
