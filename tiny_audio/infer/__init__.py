"""Step 8 of the path: tokens → text, for whole files."""
