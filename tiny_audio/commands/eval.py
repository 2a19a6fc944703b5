"""`tiny-audio eval`: a model on a dataset, kept with everything needed to score it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tiny_audio.commands import refusing, say

if TYPE_CHECKING:
    from tiny_audio.data.examples import SourceConfig


def evaluate(
    model: Annotated[str, typer.Argument(help="nano, a checkpoint folder, or a Hub id.")],
    dataset: Annotated[str, typer.Option(help="A name, a manifest or a folder.")] = "quickstart",
    max_samples: Annotated[int, typer.Option(min=0, help="So many clips; 0 is all.")] = 0,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only such clips; repeat it for more."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.")] = None,
    split: Annotated[str, typer.Option(help="Of a dataset that has splits.")] = "",
    prompt: Annotated[str, typer.Option(help="Asked instead of the model's instruction.")] = "",
    normalizer: Annotated[str, typer.Option(help="What does not count.")] = "whisper-en",
    seed: Annotated[int, typer.Option(help="Of the order of the clips.")] = 42,
    batch_s: Annotated[float, typer.Option(help="Seconds of audio answered at once.")] = 60.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
) -> None:
    """Transcribe a dataset and score it. A run that was stopped goes on where it stopped.

    Exit code 1 if any clip failed: all of its words then count as deleted.
    """
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from dataclasses import replace

        from tiny_audio.evaluate.run import RunConfig
        from tiny_audio.evaluate.run import evaluate as run
        from tiny_audio.evaluate.systems import open_system
        from tiny_audio.evaluate.view import Lines, show_result

        source = named_dataset(dataset)
        config = RunConfig(
            name=readable(dataset),
            source=replace(source, split=split or source.split),
            where=tuple(where or ()),
            max_samples=max_samples,
            prompt=prompt,
            seed=seed,
            normalizer=normalizer,
            batch_s=batch_s,
        )
        result, folder = run(open_system(model, device), config, out, Lines())
    Console().print(show_result(f"{model} on {config.name}", result))
    say(f"Kept in {folder}; score it again: tiny-audio score {folder}")
    if result["scores"]["failed"]:
        raise typer.Exit(1)


def named_dataset(name: str) -> SourceConfig:
    """The embedded held-out clips by name; anything else is a path or hf:ID."""
    from tiny_audio.data.examples import SourceConfig
    from tiny_audio.train.experiments import EMBEDDED

    return SourceConfig(path=str(EMBEDDED / "held-out") if name == "quickstart" else name)


def readable(dataset: str) -> str:
    """A dataset's name in results: of a path, its last two parts."""
    return "/".join(Path(dataset).parts[-2:]) if Path(dataset).exists() else dataset
