"""`tiny-audio score` and `compare`: saved predictions, on the CPU, as often as you like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, show

Normalizing = Annotated[
    str | None,
    typer.Option(
        "--normalizer",
        help="Text normaliser applied before scoring; by default that of the run, or whisper-en.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def score(
    predictions: Annotated[
        list[Path], typer.Argument(help="Folders of runs, or .jsonl files with predictions.")
    ],
    ref_field: Annotated[
        str | None,
        typer.Option(help="Field that holds the reference, in a file of another program."),
    ] = None,
    hyp_field: Annotated[
        str | None,
        typer.Option(help="Field that holds the hypothesis, in a file of another program."),
    ] = None,
    normalizer: Normalizing = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of the worst clips to show.")] = 0,
    utterances: Annotated[
        Path | None, typer.Option(help="CSV file to write, with one line for each utterance.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score saved predictions: error rates with intervals, failures, speed."""
    with refusing():
        from tiny_audio.evaluate.predictions import Fields
        from tiny_audio.evaluate.saved import Saved, common_normalizer
        from tiny_audio.evaluate.view import show_result, show_worst, write_table

        given = {"ref": ref_field, "hyp": hyp_field}
        named = {name: field for name, field in given.items() if field is not None}
        foreign = Fields(**named) if named else None
        read = [Saved.read(path, foreign) for path in predictions]
        normal = common_normalizer(read, normalizer)
        scored = [(str(saved.path), *saved.score(normal)) for saved in read]
        if utterances is not None:
            write_table(utterances, {name: table for name, _, table in scored})
    if as_json:
        for _, result, _ in scored:
            print(json.dumps(result, ensure_ascii=False))
        return
    for name, result, table in scored:
        show(show_result(name, result))
        if worst:
            show(show_worst(table, worst))


def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run, or its predictions.")],
    b: Annotated[
        Path, typer.Argument(help="Folder or predictions of another run on the same clips.")
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Compare groups too, by this column: speaker, gender, age …"
        ),
    ] = None,
    normalizer: Normalizing = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs on the same clips: the difference A − B of their error rates.

    The difference has an interval. It is negative if A has fewer errors.
    """
    with refusing():
        from tiny_audio.evaluate.compare import compare as make
        from tiny_audio.evaluate.saved import Saved, common_normalizer
        from tiny_audio.evaluate.view import show_comparison

        ours, theirs = Saved.read(a), Saved.read(b)
        normal = common_normalizer([ours, theirs], normalizer)
        found = make(ours.table(normal), theirs.table(normal), normal, by or ())
    if as_json:
        print(json.dumps({"paths": [str(a), str(b)], **found}, ensure_ascii=False))
    else:
        show(show_comparison((str(a), str(b)), found))
