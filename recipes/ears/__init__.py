"""A small decoder answers questions about sounds and music, from frames of Whisper tiny.en."""
