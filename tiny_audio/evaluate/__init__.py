"""Evaluating systems: their answers are kept with everything needed to score them again.

datasets       names, and where their clips are
clips          which of them are answered, in which order
robustness     the same clips under noise, speed, band and codec; grid: a run for each
systems        what can be evaluated: anything that answers clips
rivals         recognisers of transformers, and by which name a system is called
endpoint       servers that speak OpenAI's transcription API
predictions    one line per clip: what was said, what was answered, how that ended
run            all clips through a system, resumable
normalize      what does not count as a difference
metrics        word and character errors with intervals
failures       what error rates do not show
tasks          questions with classes, options or slots; parsers: what an answer commits to
understanding  accuracy, macro-F1, confusion, unparsed answers
controls       the same questions with silence, with another clip's audio, and a constant
result         result.json; provenance: where it is from; saved: files from elsewhere
compare        two systems on the same clips
proof          a result is believed when its predictions give it again
report         one HTML page per evaluation
leaderboard    rows from proved results; submission: files of a pull request that adds one
view           what is printed
"""
