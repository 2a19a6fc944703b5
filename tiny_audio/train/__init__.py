"""Training: from a recipe to a model, and the pretraining of nano's own parts."""
