"""What a model does with one clip or one sample, and the pages and pictures that show it."""

from tiny_audio.scope.trace.path import trace

__all__ = ["trace"]
