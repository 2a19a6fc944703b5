"""Of several texts at a time the likeliest: against all texts there are, and against greedy."""

import pytest
import torch
import toys
from pairs import batch_of, model_of, prompts_of

from tiny_audio.infer.transcriber import Request
from tiny_audio.model.beam import search
from tiny_audio.model.errors import ConfigError, PromptError
from tiny_audio.model.generation import LOOP_REPEATS, write

MIXED = (9_000, 400, 20_000)
NO_STOP = [10_000]


def logprobs_after(model, embeds_1LD, tokens):
    """Log-probabilities (tokens + 1, V): of each token of an answer, and of what comes after it."""
    words = model.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long))
    with torch.no_grad():
        logits = model.decoder(inputs_embeds=torch.cat([embeds_1LD, words], 1)).logits[0]
    return logits[embeds_1LD.shape[1] - 1 :].log_softmax(-1)


@pytest.mark.parametrize("family", toys.quick(toys.DECODERS, ("qwen3",)))
def test_with_room_for_all_texts_it_finds_the_likeliest(family):
    """Every text that can stop within its limit is scored by itself, without a cache."""
    model = model_of("hubert", "mlp", family)
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(9_000)))
    first = logprobs_after(model, embeds, [])[0]
    likely = first.topk(12).indices.tolist()
    stops = [likely[3], likely[7]]
    words = [token for token in range(len(first)) if token not in stops]
    texts = {(): first[stops].max().item()}
    for word in words:
        after = logprobs_after(model, embeds, [word])
        texts[word,] = (after[0, word] + after[1, stops].max()).item()
    found = search(model, embeds, mask, stops, [2], beams=len(first))[0]
    assert found.finish_reason == "stop"
    assert tuple(found.tokens) == max(texts, key=texts.__getitem__)


def test_a_proposed_token_is_judged_however_unlikely_it_is():
    model = model_of("hubert", "mlp", "qwen3")
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(9_000)))
    unlikely = int(logprobs_after(model, embeds, [])[0].argmin())

    def judge(texts):
        return [0.0 if text.tokens[:1] in ((), (unlikely,)) else -1e3 for text in texts]

    asked = (model, embeds, mask, NO_STOP, [2], 2, [judge])
    assert search(*asked)[0].tokens[0] != unlikely
    assert search(*asked, proposed=[[unlikely]])[0].tokens[0] == unlikely


@pytest.mark.parametrize("family", toys.quick(toys.DECODERS, ("qwen3",)))
def test_one_beam_is_greedy_and_more_are_never_less_likely(family):
    model = model_of("hubert", "mlp", family)
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(*MIXED)))
    greedy = write(model, embeds, mask, NO_STOP, [9] * 3)
    one, four = (search(model, embeds, mask, NO_STOP, [9] * 3, beams=n) for n in (1, 4))
    assert [row.tokens for row in one] == [row.tokens for row in greedy]
    for few, many in zip(greedy, four, strict=True):
        assert many.finish_reason == "length"
        assert sum(many.logprobs) >= sum(few.logprobs) - 1e-4
    assert any(few.tokens != many.tokens for few, many in zip(greedy, four, strict=True))


@pytest.mark.parametrize("family", toys.quick(toys.DECODERS, ("qwen3",)))
def test_a_prompt_gets_the_same_text_alone_in_a_batch_and_the_plain_way(family):
    model = model_of("whisper", "swiglu", family)
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(*MIXED)))
    stop, limits = write(model, embeds, mask, NO_STOP, [12] * 3)[0].tokens[4:5], [12, 3, 9]
    together = search(model, embeds, mask, stop, limits, beams=3)
    plain = search(model, embeds, mask, stop, limits, beams=3, plain=True)
    for number, clip in enumerate(toys.clips(*MIXED)):
        own, seen = prompts_of(model, batch_of(model, [clip]))
        alone = search(model, own, seen, stop, limits[number : number + 1], beams=3)[0]
        for other in (alone, plain[number]):
            assert other.tokens == together[number].tokens
            assert other.finish_reason == together[number].finish_reason
        scored = logprobs_after(model, own, alone.tokens)[:-1]
        said = scored.gather(1, torch.tensor(alone.tokens, dtype=torch.long)[:, None])[:, 0]
        torch.testing.assert_close(said, torch.tensor(alone.logprobs), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("stop_logit", "reason"), [(8.5, "stop"), (-20.0, "loop")])
def test_how_the_likeliest_text_ended_is_said(stop_logit, reason, monkeypatch):
    """A loop or a cut is not hidden behind some unlikely text that stopped."""
    model = model_of("hubert", "mlp")
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(9_000)))
    word, stop, head = 5, 6, model.get_output_embeddings()
    logits = torch.full((head.out_features,), -20.0)
    logits[word], logits[stop] = 9.0, stop_logit
    forward = head.forward
    monkeypatch.setattr(head, "forward", lambda x: forward(x) * 0 + logits)
    found = search(model, embeds, mask, [stop], [99], 2)[0]
    assert found.finish_reason == reason
    assert found.tokens == ([] if reason == "stop" else [word] * LOOP_REPEATS)
    cut = search(model, embeds, mask, [stop], [4], 2)[0]
    assert cut.finish_reason == ("length" if reason == "loop" else "stop")


def test_what_cannot_be_searched_is_refused():
    model = model_of("hubert", "mlp")
    embeds, mask = prompts_of(model, batch_of(model, toys.clips(9_000)))
    with pytest.raises(ConfigError, match="beams=0"):
        search(model, embeds, mask, NO_STOP, [4], beams=0)
    with pytest.raises(PromptError, match="pad on the left"):
        search(model, embeds, torch.zeros_like(mask), NO_STOP, [4], beams=2)
    with pytest.raises(ConfigError, match="beams=0"):
        Request(beams=0)
    with pytest.raises(ConfigError, match="Hotwords work with greedy"):
        Request(hotwords=("Ada",), beams=2)


def test_nano_searches_where_it_is_asked_to(nano):
    path, text = toys.samples()[0]
    found = nano.transcribe(path, beams=5)
    greedy = nano.transcribe(path)
    assert found.text == text
    assert found.segments[0].mean_logprob == pytest.approx(greedy.segments[0].mean_logprob, abs=0.1)
