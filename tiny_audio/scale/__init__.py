"""Transcription by many processes: shards of a manifest, and the same work on Ray.

shards    whose clips are whose, what a folder holds, and its report
raydata   clips through a Ray Data pipeline, for several machines
"""
