"""Judging what a training run has written, with one file for each kind of check."""
