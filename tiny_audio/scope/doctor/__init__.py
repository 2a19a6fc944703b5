"""What a training run has written, judged: one file for each kind of check."""
