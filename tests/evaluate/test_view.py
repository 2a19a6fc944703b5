"""What is printed beside a word error rate."""

import re

import pytest
from rich.console import Console

from tiny_audio.evaluate.compare import compare
from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.view import BLOCK, Lines, decoding, show_comparison, show_worst


def print_plainly(shown):
    Console(width=140).print(shown)


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


def test_an_empty_text_is_shown_as_one(capsys):
    empty, failed = (
        Prediction("a:1", "one", hyp, outcome, duration_s=1.0, seconds=0.1)
        for hyp, outcome in (("", "ok"), (None, "error"))
    )
    table = utterances([empty, failed], normalizer("plain"))
    Lines().sample(table[0])
    assert "  Pred: (nothing)\n" in capsys.readouterr().out
    print_plainly(show_worst(table, 2))
    assert capsys.readouterr().out.count("Pred: (nothing)") == 1


def test_a_difference_is_in_points_and_has_a_sign(capsys):
    refs, normal = ["the cat", "a dog", "one two"], normalizer("plain")
    tables = [
        utterances(
            [
                Prediction(f"a:{n}", ref, hyp, "ok", duration_s=1.0, seconds=0.1)
                for n, (ref, hyp) in enumerate(zip(refs, hyps, strict=True))
            ],
            normal,
        )
        for hyps in (refs, ["the cat", "a", ""])
    ]
    print_plainly(show_comparison(("first", "second"), compare(*tables, normal)))
    shown = capsys.readouterr().out
    assert "A − B (points)" in shown
    assert re.search(r"-50\.00 │ -100\.00 to [+-]0\.00 │", shown), shown
    assert "    B:   (nothing)\n" in shown
