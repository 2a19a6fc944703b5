"""Training: from a recipe to a model, and the pretraining of nano's own parts."""

# First of all, so that transformers finds our registration complete whatever it imports next.
import tiny_audio.model as model  # noqa: F401
