"""Training: nano's own pretraining so far (`python -m tiny_audio.train.nano --help`)."""

# First of all, so that transformers finds our registration complete whatever it imports next.
import tiny_audio.model as model  # noqa: F401
