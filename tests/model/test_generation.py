"""Our greedy loop writes what `generate` of transformers writes, and says why it ended."""

import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from pairs import batch_of, model_of, processor_of, prompts_of

from tiny_audio.model.errors import PromptError
from tiny_audio.model.generation import LOOP_REPEATS, loops, token_limit, write
from tiny_audio.model.prompt import Turn

FAMILIES = list(toys.DECODERS)
MIXED = (9_000, 400, 20_000)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("encoder", ["whisper", "hubert"])
def test_greedy_writing_equals_generate(family, encoder):
    model = model_of(encoder, "mlp", family)
    batch = batch_of(model, toys.clips(*MIXED))
    stop = processor_of(model).stop_ids()
    ours = write(model, *prompts_of(model, batch), stop, [9] * 3)
    theirs = model.generate(
        **batch, max_new_tokens=9, do_sample=False, eos_token_id=stop, pad_token_id=0
    )
    for row, ids in zip(ours, theirs[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
        assert ids[: len(row.tokens)] == row.tokens
        if row.finish_reason == "stop":
            assert ids[len(row.tokens)] in stop


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_writing_equals_a_loop_without_a_cache(family):
    model = model_of("hubert", "mlp", family)
    batch = batch_of(model, toys.clips(9_000))
    embeds, mask = prompts_of(model, batch)
    ours = write(model, embeds, mask, [10_000], [8])[0]
    with torch.no_grad():
        for token, logprob in zip(ours.tokens, ours.logprobs, strict=True):
            scores = model.decoder(inputs_embeds=embeds).logits[0, -1].log_softmax(-1)
            assert scores.argmax() == token
            assert scores.max().item() == pytest.approx(logprob, abs=1e-4)
            word = model.get_input_embeddings()(torch.tensor([[token]]))
            embeds = torch.cat([embeds, word], 1)


def test_beams_hear_the_clip_of_their_own_prompt_and_refuse_several():
    model = model_of("hubert", "mlp")
    settings = {"num_beams": 2, "max_new_tokens": 4, "do_sample": False, "eos_token_id": 9_999}
    clips = toys.clips(9_000, 9_000)
    batch = batch_of(model, clips)
    together = model.generate(**batch, **settings, pad_token_id=0)
    for row, clip in zip(together, clips, strict=True):
        alone = model.generate(**batch_of(model, [clip]), **settings, pad_token_id=0)
        assert torch.equal(row, alone[0])
    several = batch_of(model, [clips], text=[[Turn("user", "<audio> <audio>")]])
    with pytest.raises(PromptError, match="num_beams=1"):
        model.generate(**several, **settings, pad_token_id=0)


def test_every_row_ends_at_its_own_stop_or_its_own_limit():
    model = model_of("hubert", "mlp")
    batch = batch_of(model, toys.clips(*MIXED))
    embeds, mask = prompts_of(model, batch)
    free = write(model, embeds, mask, [10_000], [12] * 3)
    assert [row.finish_reason for row in free] == ["length"] * 3
    stop = free[0].tokens[4]
    stopped = write(model, embeds, mask, [stop], [12, 5, 12])
    for row, long, limit in zip(stopped, free, [12, 5, 12], strict=True):
        expected = long.tokens[:limit]
        if stop in expected:
            expected = expected[: expected.index(stop)]
            assert row.finish_reason == "stop"
        else:
            assert row.finish_reason == "length"
        assert row.tokens == expected
        assert len(row.logprobs) == len(row.tokens)
    assert stopped[0].finish_reason == "stop"


@given(
    head=st.lists(st.integers(0, 9), max_size=9),
    run=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    times=st.integers(1, LOOP_REPEATS + 3),
)
def test_a_loop_is_a_short_run_often_enough_in_a_row(head, run, times):
    tokens = head + run * times

    def naive() -> bool:
        return any(
            tokens[-period * LOOP_REPEATS :] == tokens[-period:] * LOOP_REPEATS
            for period in range(1, 9)
            if len(tokens) >= period * LOOP_REPEATS
        )

    assert loops(tokens) == naive()
    if times >= LOOP_REPEATS:
        assert loops(tokens)


def test_the_limit_grows_with_the_clip_and_is_never_transformers_twenty():
    """Without a limit `generate` stops after 20 tokens (trap T37)."""
    assert token_limit(0) >= 32
    assert token_limit(30) >= 32 + 30 * 20
