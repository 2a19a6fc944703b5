import itertools
import json
from pathlib import Path

import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from tiny_audio.evaluate.normalize import NORMALIZERS, check_same, normalizer
from tiny_audio.model.errors import ConfigError

GOLDEN = [
    json.loads(line)
    for line in Path(__file__).with_name("normalized.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("name", NORMALIZERS)
def test_texts_of_the_golden_file(name):
    normal = normalizer(name)
    rows = [row for row in GOLDEN if row["normalizer"] == name]
    assert {row["text"]: normal(row["text"]) for row in rows} == {
        row["text"]: row["expected"] for row in rows
    }


def test_the_golden_file_has_two_hundred_pairs_and_all_normalisers():
    assert len(GOLDEN) >= 200
    assert {row["normalizer"] for row in GOLDEN} == set(NORMALIZERS)


def test_the_short_way_of_whisper_en_writes_the_same_texts():
    """Texts without contractions and abbreviations leave those out; brackets may join new ones."""
    original, normal = EnglishTextNormalizer(), normalizer("whisper-en-1")
    texts = [row["text"] for row in GOLDEN]
    texts += ["d[x]r who", "don [x]'t", "can( )'t", "DR who", "d um r", "a dr. b", "İ gonna"]
    texts += [f"{a} {b}" for a, b in zip(texts, reversed(texts), strict=True)]
    for text in texts:
        assert normal(text) == " ".join(original(text).split()), text


def test_a_typographic_apostrophe_is_an_apostrophe_in_all_that_part_words():
    words = "I don’t know what you‘re saying, it’s five o’clock, rock ’n’ roll".split()
    for name in ("whisper-en", "plain", "cjk-char"):
        normal = normalizer(name)
        for a, b in itertools.pairwise(words):
            text = f"{a} {b}"
            assert normal(text) == normal(text.replace("’", "'").replace("‘", "'")), (name, text)
    assert normalizer("whisper-en").version.endswith(", apostrophes")


@pytest.mark.parametrize("name", ["none", "plain", "cjk-char", "basic-keep-marks"])
def test_a_second_time_changes_nothing(name):
    normal = normalizer(name)
    for row in GOLDEN:
        once = normal(row["text"])
        assert normal(once) == once


def test_every_text_is_rewritten_once():
    called = []

    def rewrite(text):
        called.append(text)
        return text.upper()

    from tiny_audio.evaluate.normalize import Normalizer

    found = Normalizer("x", "1", rewrite).all(["a", "b", "a"])
    assert found == {"a": "A", "b": "B"}
    assert sorted(called) == ["a", "b"]


def test_an_unknown_name_says_the_nearest():
    with pytest.raises(ConfigError, match="whisper-en"):
        normalizer("whisper_en")


@pytest.mark.parametrize("other", [{"id": "plain", "version": "2"}, {"id": "none", "version": "1"}])
def test_results_of_different_normalisers_refuse_to_be_compared(other):
    ours = {"normalizer": normalizer("plain").to_dict()}
    check_same(ours, ours)
    with pytest.raises(ConfigError, match=rf"{other['id']} \(version {other['version']}\)"):
        check_same(ours, {"normalizer": other})
