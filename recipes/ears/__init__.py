"""Sounds and music, answered by a small decoder: several layers of Whisper tiny.en, heard once."""
