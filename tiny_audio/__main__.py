"""`python -m tiny_audio`."""

from tiny_audio.cli import main

main()
