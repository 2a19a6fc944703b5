import random
import re

import pytest

from recipes.nano.sentences import book_spans, cardinal, domain_sentence, is_held_out, ordinal


def sentences(seed, count=300):
    rng = random.Random(seed)
    return [domain_sentence(rng) for _ in range(count)]


def test_the_generator_is_a_function_of_its_seed():
    assert sentences(3) == sentences(3)
    assert sentences(3) != sentences(4)


def test_sentences_are_spoken_words_only():
    for text, _ in sentences(0, 3000):
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", text), text


def test_every_kind_and_a_wide_vocabulary_come_up():
    drawn = sentences(0, 6000)
    assert len({kind for _, kind in drawn}) == 11
    assert len({word for text, _ in drawn for word in text.split()}) > 1200


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (108, "one hundred eight"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
        (2_000_001, "two million one"),
    ],
)
def test_cardinals(number, words):
    assert cardinal(number) == words


def test_cardinals_with_and():
    assert cardinal(108, with_and=True) == "one hundred and eight"
    assert cardinal(7_350, with_and=True) == "seven thousand three hundred and fifty"


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (23, "twenty third"), (31, "thirty first")],
)
def test_ordinals(number, words):
    assert ordinal(number) == words


def test_held_out_sentences_are_few_and_fixed():
    texts = {text for text, _ in sentences(0, 5000)}
    share = sum(map(is_held_out, texts)) / len(texts)
    assert 0.005 < share < 0.04
    assert not is_held_out("seven")


def test_book_spans_leave_out_what_is_not_spoken(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(
        "A licence of 1999 comes first.\n*** START OF THE BOOK ***\n"
        "It was a bright cold day, Mr. Smith said; and the clocks\nwere striking. CHAPTER XIV\n"
        "In 1984 there were 12 men here.\n*** END OF THE BOOK ***\nOne more licence comes last.\n"
    )
    assert book_spans(book) == ["it was a bright cold day", "and the clocks were striking"]
