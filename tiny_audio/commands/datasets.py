"""`tiny-audio datasets`: what `--dataset` takes by name."""

import typer
from rich.console import Console

from tiny_audio.commands import say


def datasets() -> None:
    """List the datasets that evaluation knows by name, with their licences."""
    from tiny_audio.evaluate.datasets import lines, table

    console = Console(emoji=False)
    if console.is_terminal:
        console.print(table())
        say("--dataset takes a manifest, a folder or hf:ID:CONFIG@SPLIT as well.")
    else:  # in a pipe: one a line, nothing cut off
        typer.echo("\n".join("\t".join(line) for line in lines()))
