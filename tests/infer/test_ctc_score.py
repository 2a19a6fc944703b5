"""A CTC head's say in a search: its probabilities are those of all paths, and they decide."""

import itertools
import math

import pytest
import torch
import toys
from pairs import batch_of, model_of, prompts_of

from tiny_audio.infer.ctc_head import CHARACTERS, decode_path, encode_characters
from tiny_audio.infer.ctc_score import UNKNOWN, CtcScore, by_characters, by_tokens
from tiny_audio.infer.request import KEEP_ALL, Request
from tiny_audio.infer.token_head import TokenHead
from tiny_audio.model.beam import Text, search
from tiny_audio.model.decoding import DecodingConfig
from tiny_audio.model.errors import ConfigError

NUM_FRAMES = 5
FEW = encode_characters("abc")


def few_letters(seed: int = 0) -> torch.Tensor:
    """Log-probabilities (T, characters + 1) of a head that writes a, b and c only."""
    rows = torch.full((NUM_FRAMES, len(CHARACTERS) + 1), -torch.inf)
    generator = torch.Generator().manual_seed(seed)
    rows[:, [0, *FEW]] = torch.randn(NUM_FRAMES, 1 + len(FEW), generator=generator).log_softmax(-1)
    return rows


def by_all_paths(log_probs_TC, wanted) -> float:
    """The log-probability of the paths whose text is wanted, one after another."""
    total = 0.0
    for path in itertools.product([0, *FEW], repeat=len(log_probs_TC)):
        if wanted(decode_path(path)):
            total += float(log_probs_TC[range(len(path)), path].sum().exp())
    return float(torch.tensor(total).log())


@pytest.mark.parametrize("text", ["a", "ab", "aa", "aba", "abb", "ccc", "cccc"])
def test_a_text_counts_with_all_of_its_paths_and_a_beginning_with_all_that_go_on(text):
    log_probs_TC = few_letters()
    score = CtcScore(log_probs_TC, 1.0, tuple)
    begun = Text(tokens=tuple(encode_characters(text)))
    begins, ends = score([begun, begun.ending("stop")])
    all_that_begin = by_all_paths(log_probs_TC, lambda t: t.startswith(text))
    assert begins == pytest.approx(all_that_begin, abs=1e-5)
    assert ends == pytest.approx(by_all_paths(log_probs_TC, text.__eq__), abs=1e-5)


def test_what_is_longer_is_never_likelier():
    """`beam.search` gives a text up once another that has ended is ahead of it."""
    drawn_TC = torch.randn(60, len(CHARACTERS) + 1, generator=torch.manual_seed(0))
    score = CtcScore(drawn_TC.log_softmax(-1), 0.3, tuple)
    tokens = encode_characters("it is a long way")
    begun = [Text(tokens=tuple(tokens[:n])) for n in range(len(tokens) + 1)]
    begins, ends = score(begun), score([text.ending("stop") for text in begun])
    assert begins[0] == 0.0
    assert all(later <= sooner for sooner, later in itertools.pairwise(begins))
    assert all(end < begin for begin, end in zip(begins, ends, strict=True))
    assert score([begun[5].ending("length"), begun[5].ending("loop")]) == [begins[5]] * 2


def test_what_was_asked_before_changes_nothing_and_is_forgotten():
    log_probs_TC = few_letters(1)
    score, fresh = (CtcScore(log_probs_TC, 1.0, tuple) for _ in range(2))
    for asked in (["a", "b"], ["ab", "ba"], ["c"], ["aba", "abb"]):
        told = score([Text(tokens=tuple(encode_characters(text))) for text in asked])
    assert set(score.known) == {(), *(tuple(encode_characters(t)) for t in ("aba", "abb"))}
    again = fresh([Text(tokens=tuple(encode_characters(text))) for text in ("aba", "abb")])
    assert told == pytest.approx(again, abs=1e-12)


def ways_past(log_probs_TC, start: str) -> list[float]:
    """By frame: the likeliest way to have written `start` and then to be in what is unknown."""
    likeliest_T, by_frame = log_probs_TC.amax(1), []
    for now in range(NUM_FRAMES):
        ways = [
            by_all_paths(log_probs_TC[:begun], start.__eq__)
            + float(likeliest_T[begun : now + 1].sum())
            for begun in range(now + 1)
        ]
        by_frame.append(max(ways))
    return by_frame


def test_a_character_head_spells_letters_and_says_what_it_cannot_spell():
    texts = ["Ab 12 c3", "Déjà vu!"]
    spelled = [by_characters(lambda tokens: texts[tokens[0]])([n]) for n in range(2)]
    wanted = [[*encode_characters("ab "), UNKNOWN, *encode_characters(" c"), UNKNOWN]]
    assert spelled == [tuple(labels) for labels in [*wanted, encode_characters("deja vu")]]


def test_a_token_head_spells_its_tokens_and_says_what_it_does_not_know():
    head = TokenHead.fresh(torch.tensor([3, 7, 9]), torch.randn(12, 4))
    assert by_tokens(head)([7, 1, 2, 9, 9, 0, 3]) == (2, UNKNOWN, 3, 3, UNKNOWN, 1)


def test_what_the_head_cannot_spell_takes_the_likeliest_path_and_what_follows_counts():
    log_probs_TC = few_letters()
    for start in ("", "a", "ab"):
        before, c = tuple(encode_characters(start)), tuple(FEW[2:])
        score = CtcScore(
            log_probs_TC, 1.0, lambda tokens, start=before, c=c: (*start, UNKNOWN, *c * len(tokens))
        )
        begun, more = Text(), Text(tokens=(1,))
        begins, ends, goes_on = score([begun, begun.ending("stop"), more])
        so_far = by_all_paths(log_probs_TC, lambda text, start=start: text.startswith(start))
        ways = ways_past(log_probs_TC, start)
        assert begins == pytest.approx(so_far, abs=1e-5)
        assert ends == pytest.approx(ways[-1], abs=1e-5)
        then = [way + float(log_probs_TC[t + 1, FEW[2]]) for t, way in enumerate(ways[:-1])]
        assert goes_on == pytest.approx(math.log(sum(map(math.exp, then))), abs=1e-5)
        assert goes_on < begins


def test_it_decides_a_search():
    """A word that the decoder finds unlikely is written where the judge wants it."""
    model = model_of("hubert", "mlp")
    batch = batch_of(model, toys.clips(9_000))
    embeds, mask = prompts_of(model, batch)
    free = search(model, embeds, mask, [10_000], [3], beams=4)[0]
    liked = search(model, embeds, mask, [10_000], [3], beams=40)[0].tokens
    wanted = next(t for t in range(50, 400) if t not in liked)

    def judge(texts):
        return [0.0 if wanted in text.tokens[:1] else -50.0 for text in texts]

    found = search(model, embeds, mask, [10_000], [3], beams=400, judges=[judge])[0]
    assert found.tokens[0] == wanted
    assert free.tokens[0] != wanted
    assert sum(found.logprobs) < sum(free.logprobs)
    with pytest.raises(ValueError, match="zip"):
        search(model, embeds, mask, [10_000], [3], beams=4, judges=[])


def test_a_weight_needs_a_search():
    for wrong in ({"ctc_weight": 0.3, "beams": 1}, {"ctc_weight": -1.0, "beams": 5}):
        with pytest.raises(ConfigError, match="at least two beams"):
            Request(**wrong)
    for wrong in ({"ctc_weight": math.inf}, {"min_logprob": math.nan}):
        with pytest.raises(ConfigError, match="expected a number"):
            Request(beams=5, **wrong)
    with pytest.raises(ConfigError, match="at least two beams"):
        Request(ctc_weight=0.3).decoding(DecodingConfig())


def test_what_a_request_leaves_open_the_model_decides():
    own = DecodingConfig(beams=4, ctc_weight=0.3, min_logprob=-1.5)
    assert Request().decoding(own) == own
    assert Request(beams=1).decoding(own) == DecodingConfig(min_logprob=-1.5)
    assert Request(ctc_weight=0.0).decoding(own) == DecodingConfig(beams=4, min_logprob=-1.5)
    assert Request(hotwords=("Ada",)).decoding(own) == DecodingConfig(min_logprob=-1.5)
    assert Request(prompt="Describe it.").decoding(own) == DecodingConfig(min_logprob=KEEP_ALL)
    assert Request(beams=5, min_logprob=-2.0).decoding(DecodingConfig()).min_logprob == -2.0


@pytest.mark.slow
def test_nano_listens_to_its_own_head(nano):
    for path, text in toys.samples()[:2]:
        assert nano.transcribe(path, beams=5, ctc_weight=0.3).text == text


@pytest.mark.slow
def test_a_digit_is_no_way_around_the_head(nano, monkeypatch):
    """Every digit is six nats behind the likeliest token, and no word is left to it."""
    digits = [nano.model.tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)]
    head = nano.model.language_model.lm_head
    forward = head.forward

    def with_digits(hidden):
        logits = forward(hidden).clone()
        logits[..., digits] = (logits.amax(-1) - 6.0)[..., None]
        return logits

    monkeypatch.setattr(head, "forward", with_digits)
    request = Request(beams=5, ctc_weight=0.3)
    heard = nano.transcribe_many([path for path, _ in toys.samples()[:4]], request)
    assert not any(character.isdigit() for one in heard for character in one.text)
