"""Evaluation: what a system answers, kept with everything needed to score it again.

predictions   one line per clip: what was said, what was answered, how that ended
systems       what can be evaluated: anything that answers clips
"""
