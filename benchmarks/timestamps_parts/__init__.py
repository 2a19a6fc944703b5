"""What `benchmarks/timestamps.py` measures with."""
