"""Pretrained parts as files: fetched from the package index, and written in the Hub's layout."""
