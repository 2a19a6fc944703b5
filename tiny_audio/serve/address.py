"""Who may reach a server of ours."""

from tiny_audio.model.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_address(host: str, token: str | None) -> None:
    """Whoever opens the server to others, names a token."""
    if host not in LOOPBACK and not token:
        raise ConfigError(
            f"--host {host} lets other machines in. Give a secret with --token or "
            f"TINY_AUDIO_TOKEN, or use --host 127.0.0.1."
        )
