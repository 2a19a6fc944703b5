"""`tiny-audio push`: a trained model to a repository of one's own on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiny_audio.commands import refusing, require, say

Run = Annotated[
    str,
    typer.Argument(help="What to publish: the folder of a run or of a checkpoint, nano or tiny."),
]
Repo = Annotated[
    str, typer.Option(help="Repository to publish to, as NAME/REPOSITORY of your own account.")
]
Public = Annotated[
    bool,
    typer.Option("--public/--private", help="Make a new repository public, or private."),
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Publish encoder and decoder too, so that nothing else is needed to load the model.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write the folder and upload nothing.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder to write before the upload; by default RUN-hub.")
]
Results = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of a run of `tiny-audio eval` of this model. Repeat it for more."),
]
Licences = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PART=LICENCE",
        help="Licence of a part: model, encoder, decoder or data.NAME. Repeat it for more.",
    ),
]
PriceOfHour = Annotated[float | None, typer.Option(min=0, help="Price of one hour of the machine.")]
PriceName = Annotated[
    str,
    typer.Option(
        help="Currency, machine and date of that price: 'EUR, two cores at HOST, May 2026'."
    ),
]
NoTexts = Annotated[
    bool, typer.Option("--no-texts", help="Quote no text of the clips in the card.")
]
SavedDtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Type in which weights are stored; by default as they were saved."),
]


def push(
    run: Run,
    repo: Repo,
    public: Public = False,
    full: Full = False,
    dry_run: DryRun = False,
    out: Out = None,
    result: Results = None,
    licence: Licences = None,
    price: PriceOfHour = None,
    price_name: PriceName = "",
    no_texts: NoTexts = False,
    dtype: SavedDtype = None,
) -> None:
    """Publish a model: a folder that works by itself, with a card computed from the run's files."""
    with refusing():
        import torch

        require("tiny-audio push", "train")  # a recipe is YAML
        if result:
            require("tiny-audio push --result", "eval")
        from tiny_audio.publish.bundle import loaded, write_bundle
        from tiny_audio.publish.card import Price, card
        from tiny_audio.publish.facts import gather, refuse_foreign
        from tiny_audio.publish.licences import licences

        facts = gather(run, result or ())
        rights = licences(facts, licence or ())
        cost = Price.of(price, price_name)
        chosen = getattr(torch, dtype) if dtype else None
        model = loaded(facts, chosen)
        refuse_foreign(facts, model, run)
        text = card(repo, facts, rights, cost, texts=not no_texts)
        folder = out or beside(run)
        bundle = write_bundle(facts, model, folder, text, full, chosen)
        for name, size in bundle.files():
            typer.echo(f"{bundle.folder / name}  {size:,} bytes")
        if bundle.whole and not full:
            say("Encoder and decoder lie in folders of this machine, so they are written too.")
        if dry_run:
            say(
                f"Nothing was uploaded. Read {bundle.folder / 'README.md'}; then repeat the "
                "command without --dry-run."
            )
            return
        from tiny_audio.publish.upload import upload

        where = upload(bundle, repo, public)
    typer.echo(where)


def beside(run: str) -> Path:
    """RUN-hub beside a run's folder; in runs/ for a model of the package."""
    path = Path(run)
    return (path if path.is_dir() else Path("runs") / path).with_name(f"{path.name}-hub")
