"""The options of a server, and how it starts, for `serve` and `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiny_audio.commands import refusing, say
from tiny_audio.commands.options import Dtype, torch_dtype
from tiny_audio.model.errors import needing

if TYPE_CHECKING:
    from tiny_audio.serve.limits import Limits

Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on; anything but localhost requires --token or --token-file."
    ),
]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="TINY_AUDIO_TOKEN",
        show_envvar=True,
        help=(
            "Secret that clients send as their API key. Other users of this machine can see this "
            "option in the output of `ps`."
        ),
    ),
]
TokenFile = Annotated[Path | None, typer.Option(help="File that holds the secret.")]
Language = Annotated[
    str, typer.Option(help="Language that the model writes, as answers report it.")
]


@dataclass(frozen=True)
class Door:
    """The options of an address: where it is, and who may come in."""

    host: str
    port: int
    token: str | None
    token_file: Path | None
    origins: list[str] = field(default_factory=list)


def start(
    command: str,
    model: str,
    door: Door,
    limits: Limits,
    device: str,
    dtype: Dtype,
    language: str,
    names: Sequence[str] = (),
    page: bool = False,
) -> None:
    """Check everything that can be wrong, load the model, and serve until a signal ends it."""
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        with needing(f"tiny-audio {command}", "serve"):
            from tiny_audio.serve.server import serve
        from tiny_audio.infer.transcriber import Transcriber
        from tiny_audio.serve.address import bind, check_address, check_origins, listen, read_token

        host, port = door.host, door.port
        secret = read_token(door.token, door.token_file)
        check_address(host, secret)
        check_origins(door.origins)
        with bind(host, port) as bound:
            transcriber = Transcriber.from_pretrained(
                model, device=device, dtype=torch_dtype(dtype)
            )
            listen(bound, host, port)
            place = f"[{host}]" if ":" in host else host
            say(f"{model} listens on http://{place}:{port} (Ctrl-C ends it)")
            serve(
                transcriber,
                list(names) or [model],
                language=language,
                bound=bound,
                token=secret,
                limits=limits,
                origins=door.origins,
                page=page,
            )
