"""Predictions for tests, written down by hand."""

from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import Prediction

# reference, hypothesis, substituted, deleted, inserted, words said — counted by hand
BY_HAND = [
    ("the cat sat on the mat", "the cat sat on the mat", 0, 0, 0, 6),
    ("the cat sat on the mat", "the cat sit on mat", 1, 1, 0, 6),
    ("turn on the light", "turn off the lights please", 2, 0, 1, 4),
    ("one two three", "", 0, 3, 0, 3),
    ("", "thank you", 0, 0, 2, 0),
    ("", "", 0, 0, 0, 0),
    ("a b c d", "b c d e", 0, 1, 1, 4),
    ("yes", "no no no no", 1, 0, 3, 1),
    ("four", None, 0, 1, 0, 1),
]


def prediction(number, ref, hyp, **fields):
    outcome = "error" if hyp is None else "ok"
    values = {"id": f"clips:{number}", "outcome": outcome, "duration_s": 2.0, "seconds": 0.5}
    return Prediction(**{**values, "ref": ref, "hyp": hyp, **fields})


def scored(*pairs, normal="none"):
    made = [prediction(n, *pair) for n, pair in enumerate(pairs)]
    return utterances(made, normalizer(normal))
