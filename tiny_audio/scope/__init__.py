"""Three tools: `trace` shows one clip, `plan` estimates a training, `doctor` judges a run."""
