"""Memory that was freed goes back to the system, after a model is read and after a rush of work."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Return memory that was freed to the system, which glibc otherwise keeps for itself.

    Reading `tiny` frees 300 MB of copies. It does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
