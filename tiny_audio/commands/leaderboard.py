"""`tiny-audio leaderboard`: rows from results, and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, say

leaderboard = typer.Typer(
    help="Rank results whose figures their predictions confirm.", no_args_is_help=True
)


@leaderboard.callback()
def options() -> None:
    """Rank results that their predictions prove."""


@leaderboard.command()
def add(
    results: Annotated[
        list[Path], typer.Argument(help="Folders of runs of tiny-audio eval, or their result.json.")
    ],
    folder: Annotated[Path, typer.Option(help="Folder of the leaderboard.")] = Path("benchmarks"),
) -> None:
    """Add results to LEADERBOARD.md and leaderboard.html. The same result twice changes nothing."""
    with refusing():
        from tiny_audio.evaluate.leaderboard import MARKDOWN
        from tiny_audio.evaluate.leaderboard import add as add_results

        num_new, rows = add_results(results, folder)
    say(f"rows added: {num_new}, in all: {len(rows)}; {folder / MARKDOWN}")


@leaderboard.command()
def submit(
    result: Annotated[Path, typer.Argument(help="The folder of an evaluation.")],
    out: Annotated[Path, typer.Option(help="Folder of submissions to write to.")] = Path(
        "submissions"
    ),
) -> None:
    """Write the files of a pull request that adds a result to a leaderboard."""
    with refusing():
        from tiny_audio.evaluate.submission import REQUEST
        from tiny_audio.evaluate.submission import submit as write

        folder = write(result, out)
    typer.echo(str(folder))
    say(f"Read {folder / REQUEST}, then send the folder as a pull request.")
