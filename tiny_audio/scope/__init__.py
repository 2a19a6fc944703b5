"""Looking at a model and a run: what training will cost (`plan`), and how it went (`doctor`)."""
