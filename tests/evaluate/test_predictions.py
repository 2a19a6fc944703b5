import json
import math
from dataclasses import replace

import pytest
from evaluate.predicted import prediction

from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import (
    UNKNOWN_S,
    Fields,
    lines_of,
    mend,
    read_predictions,
)
from tiny_audio.evaluate.result import make_result
from tiny_audio.model.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    made = [
        prediction(1, "héllo", "hello", columns={"speaker": "a", "age": 7}, confidence=0.5),
        prediction(2, "two", None, error="no such file"),
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(one.to_line() for one in made))
    return path, made


def test_what_is_written_is_read_again(written):
    path, made = written
    assert read_predictions(path) == made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speeker": "a"}, "no 'speeker'"),
        ({"hyp": ...}, "no 'hyp'"),
        ({"ref": 3}, "ref is 3"),
        ({"seconds": True}, "seconds is True"),
        ({"seconds": -0.1}, "seconds is -0.1"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"duration_s": float("inf")}, "duration_s is inf"),
        ({"confidence": float("nan")}, "confidence is nan"),
        ({"outcome": "done"}, "outcome 'done'"),
        ({"hyp": None}, "null if, and only if"),
        ({"id": "clips:1"}, "line 1 has too"),
    ],
)
def test_a_line_that_is_not_ours_is_named(written, changes, said):
    path, _ = written
    row = json.loads(prediction(3, "three", "three").to_line()) | changes
    with path.open("a") as file:
        file.write(json.dumps({k: v for k, v in row.items() if v is not ...}) + "\n")
    with pytest.raises(ConfigError, match=said) as caught:
        read_predictions(path)
    assert f"{path}:3" in str(caught.value)


def test_a_column_that_is_no_number_is_null_in_json():
    one = replace(prediction(1, "one", "one"), columns={"age": math.nan, "all": [math.inf, 2.0]})
    line = json.loads(one.to_line(), parse_constant=pytest.fail)
    assert line["columns"] == {"age": None, "all": [None, 2.0]}


def test_a_torn_last_line_is_dropped(written):
    path, made = written
    with path.open("a") as file:
        file.write(prediction(3, "three", "three").to_line()[:40])
    with pytest.raises(ConfigError, match=":3 is no prediction"):
        read_predictions(path)
    mend(path)
    assert list(lines_of(path)) == made


def test_nothing_written_is_nothing_to_score(tmp_path):
    assert list(lines_of(tmp_path / "none.jsonl")) == []
    with pytest.raises(ConfigError, match="does not exist"):
        read_predictions(tmp_path / "none.jsonl")


@pytest.mark.parametrize("length", [None, "3.2", -1, True, [1], float("nan"), 10**400])
def test_a_length_that_is_none_is_unknown_and_the_row_is_scored(tmp_path, length):
    path = tmp_path / "theirs.jsonl"
    rows = [{"ref": "", "hyp": "b", "duration": length}, {"ref": "d e", "hyp": "d", "duration": 2}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_predictions(path, Fields())
    assert [one.duration_s for one in read] == [UNKNOWN_S, 2.0]
    result = make_result(utterances(read, normalizer()), normalizer())
    assert result["scores"]["wer"]["rate"] == 1.0
    assert result["speed"]["audio_s"] is None
    assert result["counters"]["nonspeech_words_per_minute"] is None


def test_how_an_answer_ended_is_taken_over_and_a_null_id_is_the_line(tmp_path):
    """Lines of `transcribe --manifest` with references beside them are such a file."""
    rows = [
        {"id": None, "ref": "a", "text": "a", "outcome": "cut_off"},
        {"id": None, "ref": "a", "text": None, "outcome": "error", "error": "not audio"},
        {"ref": "a", "text": "", "outcome": "error", "error": "out of memory"},
        {"ref": "a", "text": "a", "outcome": "loop"},
        {"ref": "a", "text": "a", "outcome": "success"},
        {"ref": "a", "text": "a", "outcome": ["ok"]},
    ]
    path = tmp_path / "theirs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_predictions(path, Fields(hyp="text"))
    assert [one.id for one in read] == ["1", "2", "3", "4", "5", "6"]
    assert [one.outcome for one in read] == ["cut_off", "error", "error", "loop", "ok", "ok"]
    assert [one.hyp for one in read] == ["a", None, None, "a", "a", "a"]
    assert [one.error for one in read[1:3]] == ["not audio", "out of memory"]
    assert [one.columns for one in read[3:5]] == [{}, {"outcome": "success"}]


def test_a_file_of_another_program(tmp_path):
    path = tmp_path / "theirs.jsonl"
    rows = [
        {"text": "one", "pred_text": "One.", "duration": 1.5, "speaker": "a"},
        {"text": "two", "pred_text": None, "id": "second"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_predictions(path, Fields("text", "pred_text"))
    assert (first.id, first.ref, first.hyp, first.duration_s) == ("1", "one", "One.", 1.5)
    assert first.columns == {"speaker": "a"}
    assert (second.id, second.hyp, second.outcome) == ("second", None, "error")
    with pytest.raises(ConfigError, match="pred_text"):
        read_predictions(path, Fields("text", "predtext"))
