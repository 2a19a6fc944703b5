"""Fast stepping writes what transformers' forward writes: alone, in a batch, whoever ends when."""

import warnings

import pytest
import torch
import toys

from tiny_audio.infer.transcriber import Window
from tiny_audio.model.audio import load_audio
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.generation import LOOP_REPEATS, write
from tiny_audio.model.steps import BUCKET, FastSteps, PlainSteps, is_walkable, normalised, steps_of
from tiny_audio.train.experiments import EMBEDDED

NEVER = [10_000]
PRESET_OF = {"qwen3": "nano", "llama": "whisper_tiny", "smollm3": "mufun"}


def lively(preset):
    """A toy whose layers outweigh its embeddings: fresh ones only repeat the last word."""
    model = toys.toy_preset(preset).build()
    with torch.no_grad():
        for name, parameter in model.language_model.model.layers.named_parameters():
            if name.endswith("proj.weight"):
                parameter.mul_(10)
    return model


def prompts(model, *lengths):
    """Embeddings of random words, padded on the left with what must not be read."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(9, 300, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths))[None] >= max(lengths) - torch.tensor(lengths)[:, None]
    return model.get_input_embeddings()(ids).detach() * 3, mask.long()


def both(model, embeds, mask, stop, limits, **options):
    fast = write(model, embeds, mask, stop, limits, **options)
    plain = write(model, embeds, mask, stop, limits, plain=True, **options)
    same(fast, plain)
    return fast


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one.tokens, one.finish_reason) == (other.tokens, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def mixed_lengths():
    return [3 + (7 * n) % 19 for n in range(32)]


@pytest.mark.parametrize("name", toys.EVERY_PRESET)
def test_32_mixed_rows_equal_the_plain_way_and_each_row_alone(name):
    """Each preset's own decoder; stop words come from what is written, some as first token."""
    model = lively(name)
    assert is_walkable(model.language_model)
    embeds, mask = prompts(model, *mixed_lengths())
    limits = [2 + (5 * n) % 21 for n in range(32)]
    free = both(model, embeds, mask, NEVER, limits)
    stop = [free[4].tokens[0], free[9].tokens[-1]]
    stopped = both(model, embeds, mask, stop, limits)
    assert {row.finish_reason for row in stopped} >= {"stop", "length"}
    assert any(row.tokens == [] for row in stopped)
    assert len({tuple(row.tokens) for row in free}) > 25
    for number, length in enumerate(mixed_lengths()[:12]):
        one = embeds[number : number + 1, -length:], mask[number : number + 1, -length:]
        same(write(model, *one, stop, limits[number : number + 1]), [stopped[number]])


@pytest.mark.slow
@pytest.mark.parametrize("family", toys.quick(toys.DECODERS, ("qwen3",)))
def test_answers_longer_than_the_cache_first_holds(family):
    model = lively(PRESET_OF[family])
    embeds, mask = prompts(model, 5, 11, 2)

    def told(row, tokens):  # or it would repeat itself
        return {(31 * len(tokens) + row) % 300: 1e4}

    written = both(model, embeds, mask, NEVER, [2 * BUCKET + 5, 3, BUCKET + 1], bias=told)
    assert len(written[0].tokens) > 2 * BUCKET


@pytest.mark.parametrize("family", toys.DECODERS)
def test_logits_of_both_ways_are_close_at_every_step_and_when_rows_leave(family):
    model = lively(PRESET_OF[family])
    embeds, mask = prompts(model, 9, 4, 6, 1)
    ways = [FastSteps(model.language_model), PlainSteps(model.language_model)]
    assert isinstance(steps_of(model.language_model), FastSteps)
    with torch.no_grad():
        close([way.begin(embeds, mask) for way in ways])
        for rows in ([0, 1, 2, 3], [3, 1], [0]):
            for way in ways:
                way.keep(torch.tensor(rows))
            ids = torch.arange(20, 20 + len(rows))
            close([way.next(ids) for way in ways])


def close(logits, off=1e-4):
    torch.testing.assert_close(logits[0], logits[1], rtol=off, atol=off / 10)


@pytest.mark.parametrize(
    ("weights", "prompt"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),  # under autocast, as training evaluates,
        (torch.float32, torch.bfloat16),  # also where prompts come out of a projector
    ],
)
@pytest.mark.parametrize("family", toys.DECODERS)
def test_in_bfloat16_both_ways_are_as_close_as_its_eight_bits(family, weights, prompt):
    model = toys.toy_preset(PRESET_OF[family]).build(dtype=weights)
    embeds, mask = prompts(model, 9, 4)
    ways = [FastSteps(model.language_model), PlainSteps(model.language_model)]
    autocast = weights == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        close([way.begin(embeds.to(prompt), mask).float() for way in ways], off=2**-4)
        close([way.next(torch.tensor([20, 21])).float() for way in ways], off=2**-4)


def test_a_row_that_repeats_itself_ends_as_a_loop_both_ways():
    model = toys.toy_preset("nano").build()
    with torch.no_grad():
        model.decoder.lm_head.weight.zero_()
    written = both(model, *prompts(model, 4, 9), NEVER, [200, 3])
    assert [row.finish_reason for row in written] == ["loop", "length"]
    assert len(written[0].tokens) == LOOP_REPEATS


@pytest.mark.parametrize("family", toys.quick(toys.DECODERS, ("qwen3",)))
def test_adapters_on_the_decoder_are_heard(family):
    model = lively(PRESET_OF[family])
    embeds, mask = prompts(model, 9, 4)
    before = both(model, embeds, mask, NEVER, [8, 8])
    model.add_lora("decoder", LoraConfig(rank=2, targets=("q_proj", "down_proj")))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=3)
    after = both(model, embeds, mask, NEVER, [8, 8])
    assert [row.tokens for row in before] != [row.tokens for row in after]


def test_what_the_fast_way_would_pass_by_is_stepped_plainly():
    model = toys.toy_preset("nano").build()
    layer = model.decoder.model.layers[0]
    seen = []
    handle = layer.register_forward_hook(lambda *_: seen.append(1))
    write(model, *prompts(model, 3), NEVER, [2])
    assert len(seen) == 2
    handle.remove()
    layer.self_attn.sliding_window = 4
    assert isinstance(steps_of(model.decoder), PlainSteps)


@pytest.mark.parametrize("plain", [False, True])
def test_a_bias_favours_tokens_of_its_row_and_leaves_the_log_probabilities_alone(plain):
    model = toys.toy_preset("nano").build()
    embeds, mask = prompts(model, 4, 9, 6)
    free = write(model, embeds, mask, NEVER, [6] * 3, plain=plain)
    calls = []

    def bias(row, tokens):
        calls.append((row, len(tokens)))
        return {33: 1e4, 34: -5.0} if (row, len(tokens)) == (1, 2) else {}

    pushed = write(model, embeds, mask, NEVER, [1, 6, 6], bias, plain=plain)
    assert pushed[1].tokens[:3] == [*free[1].tokens[:2], 33]
    assert -50 < pushed[1].logprobs[2] < free[1].logprobs[2]
    assert pushed[2] == free[2] or pushed[2].tokens == free[2].tokens
    assert calls == [(0, 0), (1, 0), (2, 0), *((r, n) for n in range(1, 6) for r in (1, 2))]


@pytest.mark.slow
def test_nano_writes_32_mixed_clips_as_it_writes_each_alone(nano):
    files = sorted((EMBEDDED / "held-out").glob("*.opus"))[::9][:32]
    windows = [Window(0, load_audio(file).samples) for file in files]
    together = nano.write(windows)
    same(together, [nano.write([window])[0] for window in windows])
    assert len({tuple(row.tokens) for row in together}) > 20


def test_a_norm_says_nothing_under_autocast():
    """PyTorch warned of bfloat16 and float32 in the middle of the quickstart's output."""
    norm = lively("nano").language_model.model.norm
    x = torch.randn(2, 3, norm.weight.shape[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = normalised(norm, x.bfloat16())
    torch.testing.assert_close(half.float(), normalised(norm, x), rtol=0.02, atol=0.02)
