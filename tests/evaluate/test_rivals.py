"""Recognisers of transformers, saved here in the Hub's layout, answer as they do by themselves."""

import json

import numpy as np
import pytest
import torch
import toys
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from tiny_audio.evaluate.rivals import system
from tiny_audio.infer.request import Request
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import ConfigError
from tiny_audio.presets import NANO

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate(LETTERS)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    torch.manual_seed(5)
    config = Wav2Vec2Config(vocab_size=len(LETTERS), pad_token_id=0, **toys.WAVEFORM)
    Wav2Vec2ForCTC(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """With Whisper's own kind of tokenizer, timestamps from 0 to 30 s included."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(7)
    raw = json.loads(toys.tokenizer("qwen3").backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in raw["merges"]]
    tokenizer = WhisperTokenizer(vocab=raw["vocab"], merges=merges)
    marks = ["<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.add_tokens([f"<|{n * 0.02:.2f}|>" for n in range(1501)])
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in (*marks, "<|endoftext|>")}
    values = {k: v for k, v in toys.ENCODERS["whisper"].items() if k != "model_type"}
    values |= {
        "vocab_size": len(tokenizer),
        "max_target_positions": 64,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
    }
    model = WhisperForConditionalGeneration(WhisperConfig(**values)).eval()
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def by_hand(folder, clip):
    """The same without the pipeline: normalise, forward, best path."""
    processor = Wav2Vec2Processor.from_pretrained(folder)
    model = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    values = processor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        return processor.batch_decode(model(values).logits.argmax(-1))[0].strip()


def test_a_ctc_model_answers_as_alone_whatever_is_in_its_batch(ctc):
    clips = toys.clips(16_000, 9_000, 24_000)
    answers = system(f"hf:{ctc}").answer(clips, [""] * 3)
    assert [a.text for a in answers] == [by_hand(ctc, clip) for clip in clips]
    assert all(a.outcome == ("ok" if a.text else "no_speech") for a in answers)
    assert any(a.text for a in answers)


@pytest.mark.slow
@pytest.mark.parametrize("beams", [None, 3])
def test_an_encoder_decoder_answers_too(whisper, beams):
    rival = system(f"hf:{whisper}", request=Request(beams=beams))
    assert rival.about().get("generate_kwargs") == (beams and {"num_beams": beams})
    (answer,) = rival.answer(toys.clips(16_000), [""])
    model, extractor = rival.pipeline.model, rival.pipeline.feature_extractor
    heard = extractor(toys.clips(16_000)[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    ids = model.generate(heard.input_features, num_beams=beams or 1)
    assert answer.text == rival.pipeline.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    mark = rival.pipeline.tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    rival.pipeline.model.generation_config.no_timestamps_token_id = mark
    (long,) = rival.answer(toys.clips(40 * 16_000), [""])
    assert long.outcome != "error", long.error


def test_another_rate_is_resampled_here(ctc, tmp_path):
    system(f"hf:{ctc}").pipeline.save_pretrained(tmp_path)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=False)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer.from_pretrained(ctc)).save_pretrained(
        tmp_path
    )
    rival = system(f"hf:{tmp_path}")
    assert rival.rate == 8000
    assert rival.answer(toys.clips(16_000), [""])[0].text is not None


def test_what_fails_is_an_error_and_the_others_still_answer(ctc):
    clips = [torch.zeros(10), *toys.clips(16_000)]
    bad, good = system(f"hf:{ctc}").answer(clips, ["", ""])
    assert (bad.text, bad.outcome) == (None, "error")
    assert bad.error
    assert good.text is not None
    (asked,) = system(f"hf:{ctc}").answer(toys.clips(16_000), ["Describe it."])
    assert (asked.text, asked.outcome) == (None, "error")


@pytest.mark.slow
def test_about_tells_two_models_apart(ctc, whisper):
    first, second = (system(f"hf:{folder}").about() for folder in (ctc, whisper))
    assert first["architecture"] == "Wav2Vec2ForCTC"
    assert first["weights_sha256"] != second["weights_sha256"]
    assert first["weights_sha256"] == system(f"hf:{ctc}").about()["weights_sha256"]
    json.dumps([first, second])


def test_half_precision_is_computed_as_float32_on_a_processor(ctc, tmp_path):
    system(f"hf:{ctc}").pipeline.save_pretrained(tmp_path)
    Wav2Vec2ForCTC.from_pretrained(ctc).half().save_pretrained(tmp_path)
    assert system(f"hf:{tmp_path}").about()["dtype"] == "float32"


def test_what_is_no_recogniser_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="speech recogniser"):
        system(f"hf:{tmp_path}")
    with pytest.raises(ConfigError, match="without hf:"):
        system(f"hf:{NANO}")


def test_our_models_are_systems_by_their_names():
    nano = system("nano")
    (answer,) = nano.answer([torch.from_numpy(np.zeros(16_000, np.float32))], [""])
    assert answer[:2] == ("", "no_speech")


@pytest.mark.slow
def test_a_ctc_head_is_named_by_its_model_or_by_its_folder():
    clip = toys.samples()[0][0]
    own, named = system("ctc:nano"), system(f"ctc:{NANO / 'ctc'}#nano")
    assert own.about() == named.about()
    samples = load_audio(clip).samples
    (one,), (other,) = own.answer([samples], [""]), named.answer([samples], [""])
    assert one == other
    assert one.text
