"""The recipe of tiny: its fast decoder is transformers', its texts and clips are as promised."""

import copy
import random

import numpy as np
import peft
import pytest
import torch
import toys
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from recipes.tiny import table
from recipes.tiny.clips import BUCKETS, padded
from recipes.tiny.decoder import AdaptedLlama
from recipes.tiny.model import ctc_mean
from recipes.tiny.texts import cased, is_held_out, plain_example, split_book
from recipes.tiny.voices import Hibari, melodic, moved

TARGETS = r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def toy_llama():
    torch.manual_seed(3)
    config = dict(toys.DECODERS["llama"])
    made = AutoConfig.for_model(config.pop("model_type"), **config, head_dim=8, vocab_size=64)
    return AutoModelForCausalLM.from_config(made).bfloat16().requires_grad_(False)


def test_the_fast_decoder_is_transformers_with_peft():
    """Hidden states and gradients to the audio embeddings agree as far as bfloat16 does."""
    model = toy_llama()
    fast = AdaptedLlama(model, rank=4)
    with torch.no_grad():
        for parameter in fast.adapters.values():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    plain = copy.deepcopy(model)
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS), plain)
    named = dict(plain.named_parameters())
    for name, adapter in fast.peft_names().items():
        named[name].data = adapter.detach().bfloat16()
    embeds = torch.randn(2, 11, 32)
    one, other = embeds.clone().requires_grad_(), embeds.clone().requires_grad_()
    got = fast(one)
    expected = plain.model(inputs_embeds=other.bfloat16(), use_cache=False).last_hidden_state
    weight = torch.randn_like(got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    for found, wanted in ((got, expected), (one.grad, other.grad)):
        error = (found.float() - wanted.float()).norm() / wanted.float().norm()
        assert error < 0.03
    trained = {name for name, p in fast.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2  # A and B of seven layers in two blocks


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ("is tom in london", "Is Tom in London?"),
        ("mark my words", "Mark my words."),
        ("i think i'm late", "I think I'm late."),
        ("who is", "Who is."),  # two words are rarely a question
    ],
)
def test_transcripts_become_sentences(plain, sentence):
    assert cased(plain) == sentence


def test_a_book_is_split_into_plain_sentences():
    raw = (
        "*** START OF THE BOOK\n\n“Well,” said Mr. Knightley; “you are\nright.” "
        "It was so.  ACT II. Enter Hamlet. She (Emma) smiled!\n*** END OF THE BOOK"
    )
    assert split_book(raw) == [
        "Well, said Mr. Knightley, you are right.",
        "It was so.",
        "She Emma smiled!",
    ]


@pytest.mark.parametrize(
    ("example", "sentences"),
    [
        ("a second degree burn", ["A second degree burn."]),
        ("how can I make amends?", ["How can I make amends?"]),
        ("is he ill", ["Is he ill?"]),
        ("when the shooting stopped", ["When the shooting stopped."]),
        ("rose; and fell", ["Rose, and fell."]),
        ("polar diameter", []),  # two words
        ("a prissy creature...settles", []),
        ("at 10 o'clock", []),
    ],
)
def test_an_example_of_the_dictionary_becomes_a_sentence(example, sentences):
    assert plain_example(example, most_words=25) == sentences


def test_marks_and_case_do_not_decide_what_is_held_out():
    texts = [f"This is the sentence with number {n}" for n in range(400)]
    held = [t for t in texts if is_held_out(t)]
    assert 2 < len(held) < 30
    assert all(is_held_out(t.lower()) and is_held_out(t + ".") for t in held)
    assert not is_held_out("Three words only")


@pytest.mark.parametrize("page", table.PAGES)
def test_pages_show_the_figures_of_the_results(page):
    text = (table.ROOT / page).read_text()
    assert table.BEGIN in text
    assert table.page_with_table(text) == text


def test_a_moved_spectrum_and_melody():
    spectrum = np.random.default_rng(0).normal(size=(Hibari.BINS, 3)).astype(np.float32)
    np.testing.assert_allclose(moved(spectrum, 1.0)[:-1], spectrum[:-1], atol=1e-5)
    peak = np.zeros((Hibari.BINS, 1), np.float32)
    peak[100] = 1
    assert moved(peak, 1.2).argmax() == 120
    f0 = np.array([0, 100, 200, 0, 150], np.float32)
    flat = melodic(f0, 0.5, 0.0)
    assert np.ptp(flat[f0 > 0]) < 1e-3
    assert (flat[f0 == 0] == 0).all()
    assert flat[1] == pytest.approx(0.5 * np.exp(np.log([100, 200, 150]).mean()), rel=1e-4)


def test_ctc_of_a_batch_is_that_of_its_clips_and_a_text_too_long_is_no_infinity():
    torch.manual_seed(0)
    log_probs = torch.randn(2, 9, 6).log_softmax(-1)
    targets, lengths = [[1, 2, 2], [3]], torch.tensor([9, 5])
    alone = [
        F.ctc_loss(
            log_probs[n, : lengths[n], None], torch.tensor([targets[n]]), lengths[n : n + 1],
            torch.tensor([len(targets[n])]), reduction="sum",
        )
        for n in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(ctc_mean(log_probs, lengths, targets), sum(alone) / 4)
    assert ctc_mean(log_probs[:1], torch.tensor([2]), [[1, 1, 1]]) == 0


def test_a_batch_has_few_shapes_and_true_lengths():
    rng = random.Random(0)
    rows = [(torch.randn(80, rng.randint(210, 300)), str(n)) for n in range(3)]
    batch = padded(rows, 3)
    assert batch.values.shape == (3, 80, 100 * 3)
    assert batch.steps == [mel.shape[1] for mel, _ in rows]
    assert batch.features().lengths_B.tolist() == batch.steps
    assert 3 in BUCKETS
