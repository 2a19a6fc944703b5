"""The command line in this process: exit code and what it printed."""

from typer.testing import CliRunner, Result

from tiny_audio.cli import app


def typed(*words, **options) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], **options)
