"""What `benchmarks/training.py` measures.

A process's peak memory never goes down, so every figure comes from a fresh one (`__main__.py`),
whose peak is forgotten once imports, weights and clips are there: what counts is what the work
adds.
"""
