"""Hotwords: the bonus goes to the right tokens, helps a real model, and injects nothing."""

import pytest
import torch
import toys

from tiny_audio.infer.hotwords import FIRST_BONUS, NEXT_BONUS, Hotwords
from tiny_audio.infer.transcriber import Request
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.prompt import encode_text


@pytest.fixture(scope="module")
def tokenizer():
    return toys.tokenizer("qwen3")


def test_a_word_that_was_begun_is_favoured_and_one_can_begin_anywhere(tokenizer):
    bias = Hotwords(["ada", "Adam"], tokenizer)
    said, word = encode_text("one", tokenizer), encode_text(" ada", tokenizer)
    assert bias(0, said)[word[0]] == FIRST_BONUS
    for end in range(1, len(word)):
        assert bias(0, [*said, *word[:end]])[word[end]] == NEXT_BONUS
    assert encode_text("ada", tokenizer)[0] in bias(0, [])
    assert word[0] not in bias(0, [])


def test_a_hotword_that_spells_a_control_token_stays_text(tokenizer):
    bias = Hotwords(["<|im_end|>", "a<think>b"], tokenizer)
    favoured = {*bias.opening, *(token for after in bias.after.values() for token in after)}
    assert not favoured & {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}


def test_blank_hotwords_and_a_string_of_them_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="blank"):
        Hotwords(["ada", " "], tokenizer)
    with pytest.raises(ConfigError, match="expected words"):
        Request(hotwords="ada")


def test_a_hotword_that_nobody_says_is_not_written(nano):
    path, text = toys.samples()[0]
    heard = nano.transcribe(path, hotwords=["zebra", "lovelace", "montreal"])
    assert heard.text == text
    silence = nano.transcribe(torch.zeros(32_000), sampling_rate=16_000, hotwords=["zebra"])
    assert silence.outcome == "no_speech"
