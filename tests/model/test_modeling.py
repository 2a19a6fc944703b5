"""Where audio meets text: fusion, loss, what trains, and the names that others expect."""

import pytest
import torch
import toys
from pairs import batch_of, decoder_of, encoder_of, features_of, model_of, processor_of, prompts_of
from transformers import AutoModelForCausalLM

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import AudioError, ConfigError, PromptError
from tiny_audio.model.modeling import AudioLM, token_loss
from tiny_audio.model.projector import LinearConfig, build_projector
from tiny_audio.model.prompt import IGNORED, Turn

FAMILIES = list(toys.DECODERS)


@pytest.fixture
def model() -> AudioLM:
    return model_of("hubert_large", "swiglu")


# Loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_transformers_with_labels(family):
    """The shift by one happens once (trap T22)."""
    decoder = decoder_of(family)
    torch.manual_seed(0)
    ids = torch.randint(9, 300, (3, 20))
    labels = torch.where(torch.rand(3, 20) < 0.4, ids, IGNORED)
    out = decoder(input_ids=ids, labels=labels)
    torch.testing.assert_close(token_loss(out.logits, labels), out.loss)


def test_losses_of_micro_batches_sum_to_the_loss_of_the_whole_batch(model):
    """A mean of means would weigh short answers more (trap T24)."""
    clips, answers = toys.clips(9_000, 5_000, 700), ["one", "two three four five six", ""]
    whole = model(**batch_of(model, clips, answers=answers)).loss
    ones = [batch_of(model, [c], answers=[a]) for c, a in zip(clips, answers, strict=True)]
    total = sum(int((one["labels"] != IGNORED).sum()) for one in ones)
    parts = [model(**one, num_items_in_batch=total).loss for one in ones]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-5, atol=1e-6)
    means = torch.stack([model(**one).loss for one in ones]).mean()
    assert not torch.allclose(means, whole, rtol=1e-4)


def test_a_batch_without_a_supervised_token_is_refused(model):
    """Cross-entropy over no token is NaN (trap T23)."""
    batch = batch_of(model, toys.clips(900), answers=["one"])
    batch["labels"][:] = IGNORED
    with pytest.raises(PromptError, match="No label is supervised"):
        model(**batch)


def test_the_answer_s_first_token_is_supervised_by_the_prompt_s_last_position(model):
    batch = batch_of(model, toys.clips(900), answers=["one"])
    logits = model(**batch).logits.detach().requires_grad_()
    token_loss(logits, batch["labels"]).backward()
    learned = logits.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    supervised = (batch["labels"][0] != IGNORED).nonzero().flatten()
    assert learned == (supervised - 1).tolist()


# Fusion -------------------------------------------------------------------------------------------


def test_placeholders_without_audio_and_audio_without_placeholders_are_refused(model):
    batch = batch_of(model, toys.clips(9_000))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with pytest.raises(PromptError, match=r"6 audio placeholders but the audio gives 0"):
        model(input_ids=ids, attention_mask=mask)
    audio = model.embed_audio(features_of(batch))
    with pytest.raises(PromptError, match=r"\[0\] audio placeholders, the clips give \[6\]"):
        model.fuse(torch.full_like(ids, 9), audio.audio_BPD, audio.lengths_B)
    cut = ids[:, int((ids[0] == model.config.audio_token_id).nonzero()[0]) + 1 :]
    with pytest.raises(PromptError, match=r"\[5\] audio placeholders, the clips give \[6\]"):
        model.fuse(cut, audio.audio_BPD, audio.lengths_B)


def test_counts_that_agree_only_in_sum_are_refused(model):
    """One prompt a position short, the next one too long: everything would shift (trap T7)."""
    batch = batch_of(model, toys.clips(9_000, 9_000))
    ids = batch["input_ids"].clone()
    placeholder = model.config.audio_token_id
    ids[0, int((ids[0] == placeholder).nonzero()[0])] = 9
    ids[1, int((ids[1] == placeholder).nonzero()[0]) - 1] = placeholder
    audio = model.embed_audio(features_of(batch))
    with pytest.raises(PromptError, match=r"\[5, 7\] audio placeholders, the clips give \[6, 6\]"):
        model.fuse(ids, audio.audio_BPD, audio.lengths_B)


def test_prompts_with_none_one_and_several_clips_share_a_batch(model):
    clips = toys.clips(9_000, 2_000, 5_000)
    turns = [
        [Turn("user", "two: <audio> and <audio>")],
        [Turn("user", "just text")],
        [Turn("user", "<audio>")],
    ]
    heard = [clips[:2], [], clips[2:]]
    processor = processor_of(model)
    together = model(**processor.batch(turns, heard, "right"))
    for number in range(3):
        one = processor.batch(turns[number : number + 1], heard[number : number + 1])
        alone = model(**one).logits[0]
        torch.testing.assert_close(
            together.logits[number, : len(alone)], alone, rtol=1e-4, atol=1e-5
        )


def test_a_clip_behind_a_cached_prompt_is_embedded_and_one_given_again_is_not(model):
    """transformers before 5.23 hands the clips of a prompt over with every token behind it."""
    clips, processor = toys.clips(9_000, 2_000), processor_of(model)
    whole = processor.batch([[Turn("user", "<audio> and <audio>")]], [clips])
    ids = whole["input_ids"]
    ends = (ids[0] == model.config.audio_token_id).nonzero().flatten()
    middle = int(ends[ends.diff().argmax()]) + 1  # behind the first clip
    parts = [processor.batch([[Turn("user", "<audio>")]], [[clip]]) for clip in clips]
    sounds = [{k: v for k, v in p.items() if k.startswith(("input_f", "input_v"))} for p in parts]
    first = model(input_ids=ids[:, :middle], use_cache=True, **sounds[0])
    second = model(input_ids=ids[:, middle:], past_key_values=first.past_key_values, **sounds[1])
    expected = model(**whole).logits
    torch.testing.assert_close(second.logits, expected[:, middle:], rtol=1e-4, atol=1e-5)
    token = torch.tensor([[9]])
    behind = model(input_ids=token, past_key_values=second.past_key_values, **sounds[1])
    longer = {**whole, "input_ids": torch.cat([ids, token], 1)}
    longer.pop("attention_mask")
    torch.testing.assert_close(behind.logits, model(**longer).logits[:, -1:], rtol=1e-4, atol=1e-5)


def test_a_prompt_of_text_alone_is_the_language_model_alone(model):
    ids = torch.arange(9, 40)[None]
    torch.testing.assert_close(model(input_ids=ids).logits, model.decoder(ids).logits)


@pytest.mark.slow
def test_windows_of_a_long_clip_lie_one_after_another():
    """Course D: consecutive windows, each encoded, positions concatenated."""
    recipe = toys.toy_preset("mufun_10hz")
    model = recipe.build()
    clip = toys.clips(480_000 + 20_000)[0]
    assert model.config.windows(len(clip)) == [480_000, 20_000]
    batch = batch_of(model, [clip])
    whole = model.get_audio_features(**features_only(batch)).pooler_output
    parts = [
        model.embed_audio(model.encoder.features([window])).audio_BPD[0]
        for window in (clip[:480_000], clip[480_000:])
    ]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)
    placeholders = int((batch["input_ids"] == model.config.audio_token_id).sum())
    assert placeholders == len(whole) == model.config.positions_for(len(clip))
    assert torch.isfinite(model(**batch).logits).all()


def features_only(batch) -> dict:
    return {key: value for key, value in batch.items() if key.startswith("input_feat")}


# What trains --------------------------------------------------------------------------------------


def test_only_the_projector_trains_at_first(model):
    names = {name.split(".")[0] for name in model.trainable()}
    assert names == {"projector"}
    assert not any(p.requires_grad for p in model.decoder.parameters())


def test_adapters_named_in_a_configuration_are_there_from_the_start():
    first = toys.toy_preset("nano").build()
    first.add_lora("decoder", LoraConfig(rank=2, targets=("v_proj",)))
    config = type(first.config).from_dict(first.config.to_dict())
    from tiny_audio.model.checkpoint import empty

    assert empty(config).trainable().keys() == first.trainable().keys()


# Names and precision ------------------------------------------------------------------------------


def test_names_that_transformers_vllm_and_the_course_expect_are_the_same_parts(model):
    assert model.encoder is model.audio_tower
    assert model.audio_projector is model.projector
    assert model.decoder is model.language_model
    assert model.config.encoder_dim == model.encoder.config.width == 32
    assert model.config.llm_dim == model.get_input_embeddings().embedding_dim == 32
    assert model.config.audio_downsample_rate == 5
    assert model.projector.k == 5
    batch = batch_of(model, toys.clips(9_000, 700))
    inputs = {key: value for key, value in batch.items() if key.startswith("input_values")}
    out = model.get_audio_features(**inputs)
    audio = model.embed_audio(features_of(batch))
    rows = [row[:n] for row, n in zip(audio.audio_BPD, audio.lengths_B.tolist(), strict=True)]
    assert torch.equal(out.pooler_output, torch.cat(rows))
    with pytest.raises(PromptError, match="input_features or input_values"):
        model.get_audio_features()


def test_encode_gives_the_frames_of_one_clip_and_wants_its_rate(model):
    clip = toys.clips(48_000)[0]
    frames = model.encode(clip, 16_000)
    assert frames.shape == (1, 149, 32)
    assert torch.equal(frames, model.encoder(model.encoder.features([clip]))[0])
    assert torch.equal(frames, model.encode(clip.numpy(), 16_000))
    with pytest.raises(ConfigError, match="got 44100"):
        model.encode(clip, 44_100)
    scaled = (clip.clamp(-1, 1) * 32_767).round().short()
    torch.testing.assert_close(model.encode(scaled, 16_000), frames, atol=1e-2, rtol=1e-2)
    with pytest.raises(AudioError, match="NaN"):
        model.encode(torch.where(clip > 0, clip, torch.nan), 16_000)
    with pytest.raises(TypeError):
        model.encode(clip)


def test_parts_handed_in_by_hand_are_a_model():
    encoder, decoder = encoder_of("whisper"), decoder_of("llama")
    by_recipe = model_of("whisper", "linear", "llama")
    by_hand = AudioLM(encoder, by_recipe.projector, decoder, tokenizer=by_recipe.tokenizer).eval()
    batch = batch_of(by_recipe, toys.clips(9_000), answers=["one"])
    assert torch.equal(by_hand(**batch).logits, by_recipe(**batch).logits)
    for widths in ((31, 32), (32, 33)):
        with pytest.raises(ConfigError, match="is 32 wide and the decoder 32"):
            AudioLM(encoder, build_projector(LinearConfig(k=3), *widths), decoder)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["whisper", "hubert", "wavlm_large"])
def test_frozen_parts_in_bfloat16_stay_near_float32_and_the_projector_trains(encoder):
    recipe = toys.toy_preset("nano").with_sources(toys.encoder_folder(encoder))
    exact = recipe.build()
    half = recipe.build(dtype=torch.bfloat16)
    half.projector.load_state_dict(exact.projector.state_dict())
    batch = batch_of(exact, toys.clips(9_000, 700), answers=["one", "two"])
    expected, found = exact(**batch), half(**batch)
    assert (found.logits - expected.logits).norm() < 0.1 * expected.logits.norm()
    assert found.loss.dtype == torch.float32
    found.loss.backward()
    for parameter in half.projector.parameters():
        assert parameter.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()


def test_embeddings_of_a_prompt_can_be_handed_to_a_stock_decoder(model):
    batch = batch_of(model, toys.clips(9_000, 700))
    stock = AutoModelForCausalLM.from_pretrained(toys.decoder_folder("qwen3")).eval()
    embeds, mask = prompts_of(model, batch)
    theirs = stock(
        inputs_embeds=embeds, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
    )
    torch.testing.assert_close(model(**batch).logits[:, -1], theirs.logits[:, -1])
