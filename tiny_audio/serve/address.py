"""Deciding who may reach a server of ours: its address, its token, and the pages that may use
it.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tiny_audio.model.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_address(host: str, token: str | None) -> None:
    """Refuse to open a server to other machines without a token."""
    if host not in LOOPBACK and not token:
        raise ConfigError(
            f"--host {host} lets other machines in. Give a secret with --token-file or "
            f"TINY_AUDIO_TOKEN, or use --host 127.0.0.1."
        )


def read_token(token: str | None, file: Path | None) -> str | None:
    """Return the secret: what is in the file, if there is one. `ps` shows options to everybody."""
    if file is None:
        return token or None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file {file} cannot be read ({error}). Write the secret into it as text."
        ) from error
    if not found:
        raise ConfigError(f"--token-file {file} is empty. Write the secret into it.")
    return found


def check_origins(origins: Sequence[str]) -> None:
    """Refuse what is no origin: a browser sends `scheme://host[:port]`, which must match."""
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
            raise ConfigError(
                f"--allow-origin {origin}: name the page's origin as a browser does, for example "
                f"https://example.org or http://localhost:3000."
            )


def is_loopback(host: str) -> bool:
    """Tell whether a Host header names this machine."""
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket for the server, before anything slow is done. Raises `ConfigError`."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" may be both 127.0.0.1 and ::1: clients try the first.
        family, kind, protocol, _, address = min(places, key=lambda at: at[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise _unusable(host, port, error) from error
    return bound


def listen(bound: socket.socket, host: str, port: int) -> None:
    """Let clients connect. Raises `ConfigError` where another server took the port meanwhile."""
    try:
        bound.listen()
    except OSError as error:
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: Exception) -> ConfigError:
    return ConfigError(
        f"Port {port} of {host} cannot be used ({error}). Choose another with --port, or end the "
        f"program that uses it."
    )
