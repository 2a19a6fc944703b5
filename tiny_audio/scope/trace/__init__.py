"""Showing what a model does with one clip or one sample, as pages and pictures."""

from tiny_audio.scope.trace.path import trace

__all__ = ["trace"]
