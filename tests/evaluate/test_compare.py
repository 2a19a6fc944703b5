import pytest
from evaluate.predicted import prediction, scored

from tiny_audio.evaluate.compare import compare, groups, labels, paired
from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.model.errors import ConfigError

NORMAL = normalizer("none")
REFS = ["the cat sat", "a dog ran", "the cat ran", "one two"]
A = ["the cat sat", "a dog ran", "the cat ran fast now", "one two"]
B = ["the cot sat", "a dog ran", "the cot ran", None]


def table(hyps, columns=()):
    made = [
        prediction(n, ref, hyp, columns=columns[n] if columns else {})
        for n, (ref, hyp) in enumerate(zip(REFS, hyps, strict=True))
    ]
    return utterances(made, NORMAL)


def test_the_difference_is_that_of_the_rates():
    found = compare(table(A), table(B), NORMAL)["overall"]
    assert (found["clips"], found["words"]) == (4, 11)
    assert found["a"]["rate"] == 2 / 11
    assert found["b"]["rate"] == 4 / 11
    assert found["difference"]["rate"] == pytest.approx(-2 / 11)
    assert found["difference"]["low"] <= -2 / 11 <= found["difference"]["high"]


def test_exchanging_the_two_turns_the_sign():
    ours, theirs = (
        compare(*tables, NORMAL) for tables in ((table(A), table(B)), (table(B), table(A)))
    )
    assert ours["overall"]["difference"]["low"] == -theirs["overall"]["difference"]["high"]
    assert ours["words"]["a_right_b_wrong"] == theirs["words"]["b_right_a_wrong"]


def test_a_system_against_itself_differs_by_nothing():
    found = compare(table(A), table(A), NORMAL)
    assert found["overall"]["difference"] == {"rate": 0.0, "low": 0.0, "high": 0.0}
    assert found["words"] == {"a_right_b_wrong": [], "b_right_a_wrong": []}
    assert found["worst"] == {"of_a": [], "of_b": []}


def test_words_that_only_one_writes_and_what_stands_there_instead():
    found = compare(table(A), table(B), NORMAL)["words"]["a_right_b_wrong"]
    assert found[0] == {"word": "cat", "count": 2, "instead": "cot"}
    assert {(row["word"], row["instead"]) for row in found[1:]} == {("one", ""), ("two", "")}


def test_the_worst_clips_of_either_with_both_texts():
    found = compare(table(A), table(B), NORMAL)["worst"]
    assert [row["id"] for row in found["of_a"]] == ["clips:2"]
    expected = {"id": "clips:3", "more_errors": 2, "a": "one two", "b": None}
    assert found["of_b"][0].items() >= expected.items()


def test_the_order_of_the_lines_does_not_matter():
    assert compare(table(A)[::-1], table(B), NORMAL) == compare(table(A), table(B), NORMAL)


def test_other_clips_and_other_references_are_named():
    with pytest.raises(ConfigError, match=r"1 only in A \(clips:3\)"):
        paired(table(A), table(B)[:3])
    other = scored(*zip([*REFS[:3], "one too"], A, strict=True))
    with pytest.raises(ConfigError, match=r"references of 1 clips differ \(clips:3\)"):
        paired(other, table(B))


def test_groups_by_a_column_of_names():
    columns = [{"noise": "café"}, {"noise": "street"}, {"noise": "café"}, {}]
    found = groups(paired(table(A, columns), table(B, columns)), "noise")
    assert [(row["value"], row["clips"], row["words"]) for row in found] == [
        ("café", 2, 6),
        ("street", 1, 3),
        ("(none)", 1, 2),
    ]
    assert found[0]["difference"]["rate"] == 0.0
    assert found[1]["difference"]["low"] is None  # one clip says nothing of others


def test_few_numbers_are_groups_and_many_are_bins_of_like_size():
    made = [prediction(n, "a", "a", columns={"age": 6 + n % 40, "level": n % 4}) for n in range(80)]
    pairs = paired(*(utterances(made, NORMAL) for _ in range(2)))
    assert set(labels(pairs, "level").values()) == {"0", "1", "2", "3"}
    bins = groups(pairs, "age")
    assert [row["value"] for row in bins] == ["6–15", "16–25", "26–35", "36–45"]
    assert [row["clips"] for row in bins] == [20] * 4


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_column_of_lists_makes_no_groups(value):
    table = utterances([prediction(1, "a", "a", columns={"custom": value})], NORMAL)
    with pytest.raises(ConfigError, match="'custom' holds lists or objects"):
        compare(table, table, NORMAL, ["custom"])


def test_a_column_that_nobody_has_says_which_there_are():
    with pytest.raises(ConfigError, match="Did you mean 'speaker'"):
        compare(table(A, [{"speaker": "x"}] * 4), table(B), NORMAL, ["speeker"])
