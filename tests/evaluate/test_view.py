"""What is printed beside a word error rate."""

import pytest

from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.view import BLOCK, Lines, decoding


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        ({"method": "greedy"}, "greedy"),
        ({"method": "beam", "beams": 5}, "5 beams"),
        (
            {"method": "beam", "beams": 5, "ctc_weight": 0.3, "ctc_head": "ab", "windows": "whole"},
            "5 beams, ctc weight 0.3, windows whole",
        ),
    ],
)
def test_decoding_is_said_as_people_say_it(decode, expected):
    assert decoding(decode) == expected


def test_a_checkpoint_says_normaliser_and_decoding(capsys):
    lines = Lines("plain, greedy")
    one = Prediction(id="a:1", ref="one two", hyp="one", outcome="ok", duration_s=1.0, seconds=0.1)
    (utterance,) = utterances([one], normalizer("plain"))
    for _ in range(BLOCK):
        lines.sample(utterance)
    assert "Corpus WER: 50.00% (plain, greedy)" in capsys.readouterr().out
