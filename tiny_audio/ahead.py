"""Starting a run's processes with their imports done. This module itself imports no torch."""

from multiprocessing import forkserver, set_forkserver_preload


def import_ahead() -> None:
    """Start the process from which those of a run are forked.

    It imports what they need while the caller does the same, or does something else.
    """
    set_forkserver_preload(["tiny_audio.cli", "tiny_audio.train.run"])
    forkserver.ensure_running()
