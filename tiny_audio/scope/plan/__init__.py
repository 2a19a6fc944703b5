"""Counting a model and estimating its training, before anything is downloaded."""
