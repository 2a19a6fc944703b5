"""The page of a trace under its earlier name, for `serve/desk.py`."""

from tiny_audio.scope.trace.page import render

__all__ = ["render"]
