"""Parsers and metrics refuse what only looks like an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.evaluate.parsers import parse_choice, parse_class, parse_slot
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.tasks import TASKS, Task, read, task
from tiny_audio.evaluate.understanding import score, similarity, wilson
from tiny_audio.model.errors import ConfigError

GENDER = TASKS["gender"].classes
OPTIONS = ["C major", "D major", "a dog barks", "light rain"]
SLOTS = {"instrument": "piano", "tempo": "fast"}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Male.", "male"),
        ("It is a woman", "female"),
        ("FEMALE voice", "female"),
        ("female", "female"),  # holds the letters of male
        ("males", None),
        ("male or female", None),
        ("male, female", None),
        ("not male", None),
        ("It isn't a man", None),
        ("non-male", None),
        ("The answer is unclear", None),
        ("", None),
        ("male male", "male"),
    ],
)
def test_a_class_is_named_by_whole_words_and_alone(answer, found):
    assert parse_class(answer, GENDER) == found


def test_longer_names_come_first_and_denials_are_no_answers():
    weather = {"rain": (), "light rain": ("drizzle",), "no rain": ("dry",)}
    assert parse_class("light rain", weather) == "light rain"
    assert parse_class("no rain", weather) == "no rain"
    assert parse_class("there is no light rain", weather) is None
    assert parse_class("rain and light rain", weather) is None
    assert parse_class("unhappy", TASKS["emotion"].classes) == "sad"


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(c)", "C"),
        ("Answer: D", "D"),
        ("the answer is d", "D"),
        ("B) D major", "B"),
        ("C major", "A"),  # its C is no letter
        ("A", "A"),
        ("A dog barks", "C"),  # its A is no letter
        ("A dog", None),
        ("It is light rain.", "D"),
        ("rain", None),
        ("A) D major", None),  # letter and words disagree
        ("A, B, C, D", None),
        ("A or B", None),
        ("A B C D", None),
        ("not B", None),
        ("all of them", None),
        ("E", None),
        ("", None),
    ],
)
def test_a_choice_is_a_letter_or_the_words_of_one_option(answer, letter):
    assert parse_choice(answer, OPTIONS) == letter


def test_a_slot_may_stand_beside_a_denial_of_another():
    instruments = TASKS["music"].slots["instrument"]
    assert parse_slot("A fast piano piece, no drums here", instruments) is None
    assert parse_slot("A fast piano piece. There is no singing.", instruments) == "piano"
    assert parse_slot("pianoforte", instruments) is None


def predictions(kind, refs, hyps):
    columns = {"choice": {"options": OPTIONS}, "music": {"slots": SLOTS}}.get(kind, {})
    rows = zip(refs, hyps, strict=True)
    return [
        Prediction(
            str(n), ref, hyp, "ok" if hyp is not None else "error", 1.0, 0.1, columns=columns
        )
        for n, (ref, hyp) in enumerate(rows)
    ]


REFS = {
    "gender": ["female", "female", "male", "female"],
    "emotion": ["happy", "sad", "angry", "neutral"],
    "intent": ["turn_on", "turn_off", "set_timer", "turn_on"],
    "describe": ["dog bark", "rain", "sea waves", "rain"],
    "choice": ["A", "B", "light rain", "D"],
}
CONSTANT = {"gender": ("male", 0.25), "emotion": ("sad", 0.25), "intent": ("turn on", 0.5)}
CONSTANT |= {"describe": ("rain", 0.5), "choice": ("D", 0.5)}
TRAPS = {  # the right class is a part of a word, or a word of a longer name
    "gender": "females",
    "emotion": "unhappily sadly angrily neutrally",
    "intent": "return one",
    "describe": "rainbow hotdog seaside",
    "choice": "Abba",
}


@pytest.mark.parametrize("kind", REFS)
def test_every_classifier_metric_refuses_cheap_answers(kind):
    def result(answer):
        return score(TASKS[kind], predictions(kind, REFS[kind], [answer] * 4))

    constant, share = CONSTANT[kind]
    assert result(constant).accuracy == share
    num_classes = 3 if kind in ("intent", "describe", "choice") else len(set(REFS[kind]))
    assert result(constant).macro_f1 == pytest.approx(2 * share / (share + 1) / num_classes)
    everything = ", ".join(TASKS[kind].classes) if kind != "choice" else "A, B, C, D"
    for cheap in (everything, everything.replace(",", " or"), "", TRAPS[kind], None):
        seen = result(cheap)
        assert (seen.accuracy, seen.macro_f1, seen.num_unparsed) == (0, 0, 4), cheap
        assert seen.num_failed == (4 if cheap is None else 0)
        assert {k for row in seen.confusion.values() for k in row} == {"unparsed"}
    right = score(TASKS[kind], predictions(kind, REFS[kind], REFS[kind]))
    assert (right.accuracy, right.macro_f1, right.num_unparsed) == (1, 1, 0)


def test_captions_are_scored_by_the_slots_they_name():
    music = TASKS["music"]
    refs = ["A fast piano piece.", "A fast piano piece."]

    def result(answer):
        return score(music, predictions("music", refs, [answer, answer]))

    assert result("Quick music on the piano").accuracy == 1
    assert result("piano, slow").accuracy == 0.5  # constant: one of two slots
    names = [word for classes in music.slots.values() for word in classes]
    everything = result(", ".join(names))
    assert (everything.accuracy, everything.num_unparsed) == (0, 4)
    assert everything.similarity < 0.5 < result("A piano piece, fast").similarity
    assert result("").num_unparsed == 4
    assert result("fastidious pianissimo").accuracy == 0
    assert result(None).num_failed == 2


def test_confusion_and_unparsed_by_hand():
    hyps = ["female", "a man", "no idea, male or female", "male"]
    seen = score(TASKS["gender"], predictions("gender", REFS["gender"], hyps))
    assert seen.confusion == {
        "female": {"female": 1, "male": 2},
        "male": {"unparsed": 1},
    }
    assert seen.accuracy == 0.25
    assert seen.macro_f1 == pytest.approx((2 * 1 / (1 + 3) + 0) / 2)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_has_a_width(counts):
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-9
    assert counts[0] / counts[1] - 1e-9 <= high <= 1
    assert high - low > 1e-4


def test_wilson_by_hand():
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


def test_similarity_ignores_order_case_and_punctuation():
    assert similarity("A slow, sad violin.", "violin sad a slow") == 1
    assert similarity("a violin", "") == 0


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "classification"},
        {"kind": "caption"},
        {"kind": "choice", "classes": {"a": []}},
        {"kind": "classification", "classes": {"happy": [], "glad": ["happy"]}},
        {"kind": "classification", "classes": {"!": []}},
        {"kind": "clasification", "classes": {"a": []}},
    ],
)
def test_tasks_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError):
        Task.from_dict(values)


def test_a_task_comes_from_a_file_or_by_name(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"kind": "classification", "classes": {"yes": ["yeah"], "no": []}}')
    own = task(str(path))
    assert read(own, "Yeah!", {}) == "yes"
    assert read(own, "No.", {}) == "no"
    assert read(own, "yes and no", {}) is None
    with pytest.raises(ConfigError, match="emotion"):
        task("emotions")
    path.write_text("{")
    with pytest.raises(ConfigError, match="no JSON"):
        task(str(path))


def test_references_and_options_that_are_no_answers_are_refused():
    with pytest.raises(ConfigError, match="no answer of this task"):
        score(TASKS["gender"], predictions("gender", ["child"], ["male"]))
    with pytest.raises(ConfigError, match="column options"):
        score(TASKS["choice"], predictions("gender", ["A"], ["A"]))
    with pytest.raises(ConfigError, match="no predictions"):
        score(TASKS["gender"], [])
    with pytest.raises(ConfigError, match="scored by words"):
        score(TASKS["transcription"], predictions("x", ["A"], ["A"]))
