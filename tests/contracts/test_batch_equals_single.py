"""A clip gives the same frames, embeddings and tokens alone and in any batch (fp32, greedy)."""

import pytest
import torch
import toys
from pairs import (
    ENCODERS,
    PAIRS,
    batch_of,
    decoder_of,
    encoder_of,
    features_of,
    model_of,
    processor_of,
    prompts_of,
)

from tiny_audio.model.encoder import features
from tiny_audio.model.errors import PromptError
from tiny_audio.model.features import valid_mask
from tiny_audio.model.generation import write
from tiny_audio.model.modeling import positions_of
from tiny_audio.model.projector import PROJECTORS, build_projector
from tiny_audio.model.prompt import IGNORED

MIXED = (9_000, 400, 23_456, 130)


@pytest.mark.parametrize("name", ENCODERS)
def test_frames_are_the_same_alone_and_in_a_batch(name):
    encoder = encoder_of(name)
    encoder.freeze()
    clips = toys.clips(*MIXED)
    together, lengths_B = encoder(features(encoder.config, clips))
    for number, clip in enumerate(clips):
        alone, length = encoder(features(encoder.config, [clip]))
        assert length == lengths_B[number]
        torch.testing.assert_close(together[number, : int(length)], alone[0], rtol=1e-4, atol=1e-5)
        assert not together[number, int(length) :].any()


@pytest.mark.parametrize(("encoder", "projector"), PAIRS)
def test_audio_embeddings_and_greedy_tokens_are_the_same_alone_and_in_a_batch(encoder, projector):
    model = model_of(encoder, projector)
    clips = toys.clips(*MIXED[: 2 if encoder == "whisper_full" else 4])
    batch = batch_of(model, clips)
    audio = model.embed_audio(features_of(batch))
    stop = processor_of(model).stop_ids()
    with torch.no_grad():
        written = write(model, *prompts_of(model, batch), stop, [6] * len(clips))
        for number, clip in enumerate(clips):
            one = batch_of(model, [clip])
            alone = model.embed_audio(features_of(one))
            length = int(alone.lengths_B[0])
            assert audio.lengths_B[number] == length == model.config.positions_for(len(clip))
            torch.testing.assert_close(
                audio.audio_BPD[number, :length], alone.audio_BPD[0], rtol=1e-4, atol=1e-5
            )
            single = write(model, *prompts_of(model, one), stop, [6])[0]
            assert written[number].tokens == single.tokens
            assert written[number].finish_reason == single.finish_reason
            assert written[number].logprobs == pytest.approx(single.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", toys.DECODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_and_loss_are_the_same_alone_and_padded_on_either_side(family, side):
    model = model_of("whisper", "swiglu", family)
    clips, answers = toys.clips(*MIXED), ["one", "two three four five", "", "light"]
    batch = batch_of(model, clips, answers=answers, padding_side=side)
    together = model(**batch)
    losses, counts = [], []
    for number, clip in enumerate(clips):
        one = batch_of(model, [clip], answers=answers[number : number + 1])
        alone = model(**one)
        real = batch["attention_mask"][number].bool()
        torch.testing.assert_close(
            together.logits[number][real], alone.logits[0], rtol=1e-4, atol=1e-5
        )
        counts.append(int((one["labels"] != IGNORED).sum()))
        losses.append(alone.loss.item() * counts[-1])
    assert together.loss.item() == pytest.approx(sum(losses) / sum(counts), rel=1e-5)


def test_a_left_and_a_right_padded_batch_train_the_projector_equally():
    model = model_of("hubert", "qformer")
    gradients = []
    for side in ("left", "right"):
        model.zero_grad()
        answers = ["one", "two three four five", "three"]
        batch = batch_of(model, toys.clips(*MIXED[:3]), answers=answers, padding_side=side)
        model(**batch).loss.backward()
        gradients.append([p.grad.clone() for p in model.projector.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_position_ids_count_only_real_tokens_on_either_side():
    """Logits do not show it: rotations see distances alone."""
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert positions_of(mask)[0, 2:].tolist() == positions_of(mask)[1, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("family", toys.DECODERS)
def test_without_the_mask_a_padded_prompt_would_give_other_logits(family):
    """What the tests above hold against: padding that is read changes everything (trap T1)."""
    model = model_of("whisper", "linear", family)
    batch = batch_of(model, toys.clips(9_000, 400))
    embeds, mask = prompts_of(model, batch)
    masked = model(inputs_embeds=embeds, attention_mask=mask).logits[1, -1]
    unmasked = model(inputs_embeds=embeds).logits[1, -1]
    assert (masked - unmasked).norm() > 0.01 * masked.norm()


def test_writing_from_a_right_padded_prompt_is_refused():
    model = model_of("whisper", "linear")
    batch = batch_of(model, toys.clips(9_000, 400), padding_side="right")
    with pytest.raises(PromptError, match="left"):
        write(model, *prompts_of(model, batch), [2], [3] * 2)


@pytest.mark.parametrize("kind", PROJECTORS)
def test_frames_behind_a_clip_have_no_influence_and_windows_of_padding_give_no_nan(kind):
    torch.manual_seed(0)
    projector = build_projector(toys.PROJECTORS[kind], 8, 16)
    lengths_B = torch.tensor([1, 61, 14])
    frames_BTE = torch.randn(3, 61, 8)
    noisy_BTE = frames_BTE + 1e3 * ~valid_mask(lengths_B, 61)[..., None]
    audio_BPD, _ = projector(frames_BTE, lengths_B)
    torch.testing.assert_close(projector(noisy_BTE, lengths_B)[0], audio_BPD, rtol=0, atol=0)
    (audio_BPD * torch.randn_like(audio_BPD)).sum().backward()
    toys.assert_gradients(projector)


def test_every_clip_stands_in_its_own_slot_of_its_own_prompt():
    model = model_of("hubert_large", "swiglu")
    batch = batch_of(model, toys.clips(*MIXED))
    audio = model.embed_audio(features_of(batch))
    embeds = model.fuse(batch["input_ids"], audio.audio_BPD, audio.lengths_B)
    slots = batch["input_ids"] == model.config.audio_token_id
    for number, length in enumerate(audio.lengths_B.tolist()):
        torch.testing.assert_close(embeds[number][slots[number]], audio.audio_BPD[number, :length])
    words = decoder_of("qwen3").get_input_embeddings()(batch["input_ids"].masked_fill(slots, 0))
    torch.testing.assert_close(embeds[~slots], words[~slots])


def test_clips_in_another_order_than_their_placeholders_are_refused():
    model = model_of("hubert_large", "swiglu")
    batch = batch_of(model, toys.clips(9_000, 16_000))
    audio = model.embed_audio(features_of(batch))
    with pytest.raises(PromptError, match="placeholders"):
        model.fuse(batch["input_ids"].flip(0), audio.audio_BPD, audio.lengths_B)
