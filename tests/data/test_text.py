import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.data.text import clean

STYLES = ("raw", "lower", "plain")


@pytest.mark.parametrize(
    ("given_text", "raw", "lower", "plain"),
    [
        ("  Hello,\tWorld!\r\n", "Hello, World!", "hello, world!", "hello world"),
        ("Don’t say ‘yes’", "Don’t say ‘yes’", "don’t say ‘yes’", "don't say yes"),
        (
            "the dogs' \"rock 'n' roll\"",
            *2 * ("the dogs' \"rock 'n' roll\"",),
            "the dogs rock n roll",
        ),
        ("It´s snake_case", *("It ́s snake_case", "it ́s snake_case"), "it's snake case"),
        ("twenty-one … 3.5", "twenty-one ... 3.5", "twenty-one ... 3.5", "twenty one 3 5"),
        ("Ｆｕｌｌ ﬁne", "Full fine", "full fine", "full fine"),
        ("cafe\u0301", "café", "café", "café"),
        ("co\u00adoperate\ufeff", "cooperate", "cooperate", "cooperate"),
        ("a\u2028b\x00c\u00a0d", "a b c d", "a b c d", "a b c d"),
        ("हिन्दी में।", "हिन्दी में।", "हिन्दी में।", "हिन्दी में"),
        ("می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم"),
        ("❤\ufe0f ok 👍", "❤\ufe0f ok 👍", "❤\ufe0f ok 👍", "ok"),
        ("\x00\x07\u200b\ud800 \u200d", "", "", ""),
        ("?!", "?!", "?!", ""),
    ],
)
def test_each_style_keeps_what_it_says(given_text, raw, lower, plain):
    assert [clean(given_text, style) for style in STYLES] == [raw, lower, plain]


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(STYLES))
def test_cleaning_twice_changes_nothing(text, style):
    once = clean(text, style)
    assert clean(once, style) == once


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_cleaning_twice_changes_nothing_for_any_character_within_a_word(style):
    for number in range(0x20000):
        text = f"e{chr(number)}\u0301 {chr(number)}"
        once = clean(text, style)
        assert clean(once, style) == once, hex(number)


@given(st.text(st.characters(exclude_categories=())))
def test_plain_holds_nothing_but_words(text):
    for word in clean(text, "plain").split(" "):
        assert not word or word.strip("'") == word
        assert all(c == "'" or unicodedata.category(c)[0] in "LMNC" for c in word)


@given(st.text(alphabet="ab C\u0301é\u00a0\t"))
def test_two_ways_to_write_a_text_become_one(text):
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert clean(composed) == clean(apart)
    assert clean(text.upper(), "lower") == clean(text.lower(), "lower")
