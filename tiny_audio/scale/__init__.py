"""Transcription by many processes: shards of a manifest, the same work on Ray, and vLLM.

shards    whose clips are whose, what a folder holds, and its report
raydata   clips through a Ray Data pipeline, for several machines
vllm_plugin, vllm_model   what vLLM loads to serve a checkpoint, in an environment of its own
"""
