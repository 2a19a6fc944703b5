import pytest
from evaluate.predicted import prediction, scored

from tiny_audio.evaluate.failures import COUNTERS, counters, failures_of
from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer


@pytest.mark.parametrize(
    ("ref", "hyp", "raised"),
    [
        ("one two", "one two", []),
        ("one two", None, ["errors"]),
        ("one two", "...", ["empty"]),
        ("", "", []),
        ("", "thank you for watching", ["nonspeech_answered"]),
        ("go home", "go go go go go", ["loop"]),
        ("go home", "we went to we went to we went to we went to we went to", ["loop"]),
        ("no no no no no", "no no no no no", []),
        ("go home", "go go go go", []),
        ("seven", "seventy seventy", []),
        ("hello", "I'm sorry, but I can't transcribe that.", ["refusal"]),
        ("hello", "As an AI language model, I cannot listen to audio.", ["refusal"]),
        ("hello", "Please provide the audio", ["refusal"]),
        ("i cannot hear you", "i cannot hear you", []),
        ("i can not stay", "i cannot stay", []),
        ("an ai wrote it", "an ai wrote it", []),
    ],
)
def test_what_a_clip_raises(ref, hyp, raised):
    (one,) = scored((ref, hyp), normal="whisper-en" if hyp != "..." else "plain")
    assert failures_of(one) == raised


@pytest.mark.parametrize("outcome", ["cut_off", "loop"])
def test_the_decoders_own_word_counts(outcome):
    made = [prediction(1, "one two", "one two", outcome=outcome)]
    assert failures_of(utterances(made, normalizer("none"))[0]) == [outcome]


def test_counters_of_a_corpus():
    table = scored(("a", "a"), ("", "you you"), ("", ""), ("b", None), ("c", ""))
    found = counters(table)
    expected = {"errors": 1, "empty": 1, "nonspeech_answered": 1}
    assert {name: found[name] for name in COUNTERS} == dict.fromkeys(COUNTERS, 0) | expected
    assert found["nonspeech_clips"] == 2
    assert found["nonspeech_words_per_minute"] == 2 / (4.0 / 60)
    assert counters(scored(("a", "a")))["nonspeech_words_per_minute"] is None
