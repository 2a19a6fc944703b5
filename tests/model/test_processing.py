"""Any audio and text become one batch: what pads, what is refused."""

import numpy as np
import pytest
import soundfile
import torch
import toys
from pairs import batch_of, features_of, model_of, processor_of

from tiny_audio.model.audio import Audio
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import AudioError, EncoderError, PromptError
from tiny_audio.model.prepare import pad_prompts
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.prompt import IGNORED, Prompt, Turn


@pytest.fixture
def processor() -> AudioProcessor:
    return processor_of(model_of("hubert_large", "swiglu"))


def test_every_kind_of_source_gives_the_same_batch(processor, tmp_path):
    samples = (toys.clips(8_000)[0].clamp(-1, 1) * 32767).round().short()
    soundfile.write(tmp_path / "clip.wav", samples.numpy(), 16_000, subtype="PCM_16")
    expected = processor(audio=samples, sampling_rate=16_000)
    sources = [
        tmp_path / "clip.wav",
        str(tmp_path / "clip.wav"),
        (tmp_path / "clip.wav").read_bytes(),
        {"array": samples.numpy(), "sampling_rate": 16_000},
        {"path": str(tmp_path / "clip.wav")},
        Audio(samples.float() / 32768, 16_000),
    ]
    for source in sources:
        found = processor(audio=source)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor)


@pytest.mark.parametrize("encoder", ["hubert", "whisper"])
def test_features_and_masks_are_those_of_the_encoder(encoder):
    model = model_of(encoder, "linear")
    clips = toys.clips(9_000, 700)
    batch = batch_of(model, clips)
    name = {"hubert": "input_values", "whisper": "input_features"}[encoder]
    expected = features(model.config.encoder, clips)
    assert torch.equal(batch[name], expected.values)
    assert torch.equal(features_of(batch).lengths_B, expected.lengths_B)
    assert list(batch) == ["input_ids", "attention_mask", name, f"{name}_mask"]
    assert list(batch) == processor_of(model).model_input_names


def test_audio_without_its_rate_is_refused(processor):
    for source in (np.zeros(8_000, np.float32), torch.zeros(8_000), {"array": np.zeros(8_000)}):
        with pytest.raises(AudioError, match="sampling_rate"):
            processor(audio=source)


def test_audio_of_another_rate_is_resampled(processor):
    t = np.arange(44_100, dtype=np.float32) / 44_100
    batch = processor(audio=np.sin(2 * np.pi * 440 * t), sampling_rate=44_100)
    assert batch["input_values"].shape == (1, 16_000)


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_are_padded_on_the_side_that_is_asked_for(side, processor):
    texts = ["a", "a much longer instruction"]
    batch = processor(
        audio=toys.clips(700, 700), text=texts, sampling_rate=16_000, padding_side=side
    )
    mask = batch["attention_mask"].bool()
    assert mask[1].all()
    edge = 0 if side == "left" else -1
    assert not mask[0, edge]
    for row, text, clip in zip(range(2), texts, toys.clips(700, 700), strict=True):
        one = processor(audio=clip, text=text, sampling_rate=16_000)
        assert batch["input_ids"][row][mask[row]].tolist() == one["input_ids"][0].tolist()


def test_labels_are_padded_with_the_ids_and_never_with_a_token():
    prompts = [Prompt([5], [5], []), Prompt([6, 7], [IGNORED, 7], [])]
    left, right = pad_prompts(prompts, 0, "left"), pad_prompts(prompts, 0, "right")
    assert left["labels"].tolist() == [[IGNORED, 5], [IGNORED, 7]]
    assert right["labels"].tolist() == [[5, IGNORED], [IGNORED, 7]]
    assert left["input_ids"].tolist() == [[0, 5], [6, 7]]
    assert right["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_a_batch_to_write_from_has_no_labels(processor):
    assert "labels" not in processor(audio=toys.clips(700), sampling_rate=16_000)
    trained = processor(audio=toys.clips(700), sampling_rate=16_000, answers=[""])
    assert (trained["labels"] != IGNORED).sum() == 1  # an empty answer still teaches to stop


def test_one_prompt_may_hold_several_clips(processor):
    first, second = toys.clips(9_000, 700)
    text = [[Turn("user", "<audio> or <audio>?")], [Turn("user", "<audio>")]]
    batch = processor(audio=[[first, second], [first]], text=text, sampling_rate=16_000)
    assert batch["input_values"].shape[0] == 3
    placeholder = processor.config.audio_token_id
    counts = (batch["input_ids"] == placeholder).sum(1).tolist()
    one, two = processor.config.positions_for(9_000), processor.config.positions_for(700)
    assert counts == [one + two, one]


@pytest.mark.parametrize(
    ("audio", "options", "said"),
    [
        (2, {"answers": ["one"]}, "2 prompt.* 1 answer"),
        (2, {"text": ["a", "b", "c"]}, "2 prompt.* 3 text"),
        (1, {"text": "<audio> <audio>"}, "2 <audio> .* 1 clip"),
        (0, {}, "no prompt"),
    ],
)
def test_counts_that_do_not_agree_are_refused_and_both_named(audio, options, said, processor):
    with pytest.raises(PromptError, match=said):
        processor(audio=toys.clips(*[700] * audio), sampling_rate=16_000, **options)


def test_an_option_that_does_not_exist_is_refused(processor):
    with pytest.raises(TypeError, match="padding_sid"):
        processor(audio=toys.clips(700), sampling_rate=16_000, padding_sid="left")
    with pytest.raises(TypeError, match="torch tensors, not 'np'"):
        processor(audio=toys.clips(700), sampling_rate=16_000, return_tensors="np")
    processor(audio=toys.clips(700), sampling_rate=16_000, return_tensors="pt")


def test_what_could_be_meant_in_two_ways_is_refused(processor):
    with pytest.raises(PromptError, match="give a list"):
        processor(audio=toys.clips(700, 800, 900), sampling_rate=16_000, answers="one")
    with pytest.raises(AudioError, match="3 clips or 3 channels"):
        processor(audio=torch.zeros(3, 700), sampling_rate=16_000)
    stereo = processor(audio=torch.zeros(2, 700), sampling_rate=16_000)
    assert len(stereo["input_ids"]) == 1


def test_long_audio_is_refused_with_a_cure_or_cut_into_windows_but_never_shortened():
    model = model_of("whisper", "blp")
    clip = torch.zeros(480_000 + 16_000)
    with pytest.raises(EncoderError, match=r"31.00 s.* window of 30 s; cut the audio into windows"):
        batch_of(model, [clip])
    config = type(model.config).from_dict(model.config.to_dict())
    config.prompt_config = {**config.prompt_config, "long_audio": "windows"}
    batch = AudioProcessor(model.tokenizer, config)(audio=clip, sampling_rate=16_000)
    assert batch["input_features_mask"].sum(1).tolist() == [3000, 100]
    assert (batch["input_ids"] == config.audio_token_id).sum() == 1500 + 50
