"""Music that is written here as MIDI and rendered by fluidsynth: every label is exact."""
