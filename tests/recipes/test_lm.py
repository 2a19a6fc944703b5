import random

import pytest
import torch
import toys
from toys_nano import SENTENCES, small_decoder, small_tokenizer

from recipes.nano import lm
from tiny_audio.model.prompt import AUDIO_TOKEN, IGNORED


def test_the_tokenizer_spells_everything_and_stops():
    tokenizer = small_tokenizer()
    for text in ["turn on the light", "quizzical ümlaut 42"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.convert_tokens_to_ids(AUDIO_TOKEN) == lm.SPECIALS.index(AUDIO_TOKEN)
    assert len(tokenizer) <= lm.VOCABULARY


def test_pseudo_frames_spell_the_text():
    frames = lm.pseudo_frames("cat nap", random.Random(0), errors=1e-9)
    assert len(frames) % lm.FRAMES_PER_POSITION == 0
    spelled = [f for f, before in zip(frames, ["", *frames], strict=False) if f and f != before]
    assert "".join(spelled) == "cat nap"
    assert frames == lm.pseudo_frames("cat nap", random.Random(0), errors=1e-9)


def rows(tokenizer, count=12):
    rng = random.Random(0)
    return [lm.example(SENTENCES[i % 4], tokenizer, rng) for i in range(count)]


def test_only_the_answer_and_its_stop_are_supervised():
    tokenizer = small_tokenizer()
    row = lm.heard("half past seven", ["a"] * 8, tokenizer)
    said = [label for label in row.prompt.labels if label != IGNORED]
    assert tokenizer.decode(said) == "half past seven<|im_end|>"
    assert row.prompt.ids.count(tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)) == 2


def test_gradients_reach_every_weight():
    tokenizer = small_tokenizer()
    decoder = small_decoder(tokenizer)
    batch = lm.collate_rows(rows(tokenizer), tokenizer, seed=0)
    audio_id = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
    assert int((batch.ids_BL == audio_id).sum()) == len(batch.letters_P4)
    total, count = lm.row_loss(decoder, batch, audio_id)
    total.backward()
    assert count == int((batch.labels_BL != IGNORED).sum())
    toys.assert_gradients(decoder)


def test_padding_does_not_change_the_loss():
    tokenizer = small_tokenizer()
    decoder = small_decoder(tokenizer)
    audio_id = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
    spoken = [lm.Row(r.prompt, r.letters) for r in rows(tokenizer) if not r.letters]
    alone = [lm.row_loss(decoder, lm.collate_rows([r], tokenizer, 0), audio_id) for r in spoken]
    total, count = lm.row_loss(decoder, lm.collate_rows(spoken, tokenizer, 0), audio_id)
    assert count == sum(c for _, c in alone)
    torch.testing.assert_close(total, sum(t for t, _ in alone))


@pytest.mark.parametrize("answer", [[7], [7] * 200])
def test_the_loss_is_the_decoders_own(answer):
    """Only supervised positions reach the vocabulary; loss and gradients are those of all."""
    tokenizer = small_tokenizer()
    decoder = small_decoder(tokenizer)
    length = len(answer) + 5
    ids_BL = torch.randint(
        5, len(tokenizer), (2, length), generator=torch.Generator().manual_seed(1)
    )
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[1, -3:] = 0
    labels_BL = torch.full_like(ids_BL, IGNORED)
    labels_BL[:, 2 : 2 + len(answer)] = ids_BL[:, 2 : 2 + len(answer)]
    embeds_BLD = decoder.get_input_embeddings()(ids_BL)
    total, count = lm.answer_loss(decoder, embeds_BLD, mask_BL, labels_BL)
    (total / count).backward()
    own = {name: p.grad.clone() for name, p in decoder.named_parameters()}
    decoder.zero_grad()
    stock = decoder(
        inputs_embeds=decoder.get_input_embeddings()(ids_BL),
        attention_mask=mask_BL,
        labels=labels_BL,
    ).loss
    stock.backward()
    torch.testing.assert_close(total / count, stock)
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(own[name], parameter.grad, atol=1e-6, rtol=1e-4)
