"""`tiny-audio transcribe --manifest`: many clips, by one of several processes or on Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiny_audio.commands import say
from tiny_audio.commands.options import ready
from tiny_audio.model.errors import ConfigError
from tiny_audio.progress import progress

if TYPE_CHECKING:
    from tiny_audio.infer.transcriber import Request
    from tiny_audio.scale.shards import Clip, Line, Work


class Engine(StrEnum):
    """The program that computes."""

    local = "local"
    ray = "ray"


Manifest = Annotated[
    Path | None, typer.Option(help="Transcribe a manifest, tar shards or a folder to --out.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the texts of --manifest; a stopped job continues in it."),
]
Part = Annotated[
    str,
    typer.Option(metavar="I/N", help="Transcribe only every N-th clip, beginning with the I-th."),
]
Retry = Annotated[bool, typer.Option("--retry", help="Transcribe clips again that failed before.")]
Computing = Annotated[
    Engine,
    typer.Option(help="local: this process transcribes. ray: Ray's actors do (extra ray)."),
]
Workers = Annotated[int, typer.Option(min=1, help="Number of Ray's actors with the model.")]
Address = Annotated[str, typer.Option(help="Address of a running Ray cluster.")]


@dataclass(frozen=True)
class Many:
    """The options of a manifest."""

    manifest: Path | None
    out: Path | None
    shard: str
    retry: bool
    engine: Engine
    workers: int
    address: str

    def given(self) -> dict[str, Any]:
        """Return the options that only a manifest has, with whether they were typed."""
        return {
            "--out": self.out,
            "--shard": self.shard != "1/1",
            "--retry": self.retry,
            "--engine": self.engine is Engine.ray,
            "--workers": self.workers > 1,
            "--address": self.address,
        }


def transcribe_manifest(
    many: Many, model: str, device: str, request: Request, aligner: Path | None
) -> int:
    """Do this process's part; how many clips of all that are done have failed."""
    from tiny_audio.scale.shards import REPORT, Shard, Work

    if many.manifest is None or many.out is None:
        raise ConfigError("--manifest needs --out FOLDER, where its texts go.")
    shard = Shard.parse(many.shard)
    if many.engine is Engine.ray and shard.of > 1:
        raise ConfigError("Ray shares the clips out itself; leave out --shard.")
    if aligner is not None and many.engine is Engine.ray:
        raise ConfigError("--aligner is for --engine local.")
    work = Work(many.manifest, many.out, model, request, aligner)
    clips = work.waiting(shard, many.retry)
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(clips))

        def tell(line: Line) -> None:
            bar.advance(task)

        if clips:
            name = "ray" if many.engine is Engine.ray else str(shard)
            work.write(name, lines(many, work, clips, device, request, aligner), tell)
    counts = work.report()
    errors = "".join(f", {n:,} × {reason}" for reason, n in counts["errors"].items())
    say(f"{counts['done']:,} of {counts['clips']:,} clips are done{errors}.")
    if counts["done"] == counts["clips"]:
        say(f"All texts: {many.out / 'transcripts.jsonl'}; counts: {many.out / REPORT}")
    return sum(counts["errors"].values())


def lines(
    many: Many,
    work: Work,
    clips: list[Clip],
    device: str,
    request: Request,
    aligner: Path | None,
) -> Iterator[Line]:
    """The lines of these clips, by the engine that was asked for."""
    if many.engine is Engine.ray:
        from tiny_audio.scale.raydata import Cluster
        from tiny_audio.scale.raydata import lines as by_ray

        assert many.manifest is not None
        return by_ray(
            work, many.manifest, clips, device, Cluster(many.workers, many.address or None)
        )
    from tiny_audio.scale.shards import transcribed

    return transcribed(clips, ready(work.job["model"], request, aligner, device), request)


def refuse_mixed(many: Many, of_files: dict[str, Any]) -> None:
    """Refuse a call with nothing to do, and options that the call would ignore.

    `of_files` names what was given that only single files have.
    """
    if many.manifest is None:
        if not of_files["FILES"]:
            raise ConfigError("Name audio files, or a manifest with --manifest and --out.")
        if odd := [name for name, value in many.given().items() if value]:
            raise ConfigError(f"{', '.join(odd)}: only with --manifest; files go to --output-dir.")
    elif odd := [name for name, value in of_files.items() if value]:
        raise ConfigError(
            f"--manifest writes one line a clip and takes no {', '.join(odd)}; leave it out."
        )
