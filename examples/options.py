"""The options of the exercises: which file, which model, which scale, and where to draw."""

import argparse
from pathlib import Path

from tiny_audio import AudioLM, build, load


def options(description: str, scales: bool = True, encoder: bool = False) -> argparse.Namespace:
    """Read `--file`, `--model`, `--out`; in exercises that run twice `--scale nano|true|both`; and
    `--encoder` in those that can take another encoder.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--file", default="samples/01.flac", help="an audio file")
    parser.add_argument("--model", default="nano", help="nano, tiny, a folder, or a Hub id")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for pictures")
    if scales:
        choices = ("nano", "true", "both")
        help = "nano: with the model's weights; true: shapes and counts of large models"
        parser.add_argument("--scale", choices=choices, default="both", help=help)
    if encoder:
        help = (
            "another encoder (a Hub id or a folder) in place of the model's; its projector is new"
        )
        parser.add_argument("--encoder", default="", help=help)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen


def model_of(args: argparse.Namespace) -> AudioLM:
    """The model that was asked for, with another encoder if one was named."""
    if getattr(args, "encoder", ""):
        return build(args.model, encoder=args.encoder)
    return load(args.model)


def title(text: str) -> None:
    """A heading between two lines."""
    print(f"\n{'=' * 64}\n{text}\n{'=' * 64}")
