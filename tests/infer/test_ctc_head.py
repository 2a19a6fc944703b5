"""A CTC head: the same in a batch, the same after saving, and for one encoder only."""

import json

import pytest
import torch
import toys
from safetensors.torch import load_file, save_file

from tiny_audio.infer.ctc_head import (
    CtcHead,
    CtcHeadConfig,
    decode_path,
    encode_characters,
    encoder_id,
    spell,
    unpooled,
)
from tiny_audio.model.encoder import load_encoder
from tiny_audio.model.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(toys.encoder_config("whisper"))


def head_for(encoder, seed=0):
    torch.manual_seed(seed)
    config = CtcHeadConfig(width=encoder.config.width, encoder=encoder_id(encoder), hidden=16)
    return CtcHead(config).eval()


def test_a_batch_gives_what_its_clips_give_alone(encoder):
    head = head_for(encoder)
    lengths = torch.tensor([30, 7, 1])
    frames = torch.randn(3, 30, encoder.config.width)  # garbage behind the shorter clips' ends
    together = head(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = head(frames[row : row + 1, :length], lengths[row : row + 1])[0]
        torch.testing.assert_close(together[row, :length], alone)
    assert head.transcribe(frames, lengths)[1] == head.transcribe(frames[1:2, :7], lengths[1:2])[0]


def test_it_is_read_back_as_it_was_stored(encoder, tmp_path):
    head = head_for(encoder)
    head.save(tmp_path / "ctc")
    again = CtcHead.from_pretrained(tmp_path / "ctc", encoder)
    assert again.config == head.config
    for name, tensor in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.bfloat16().float()), name
    assert sorted(p.name for p in (tmp_path / "ctc").iterdir()) == [
        "config.json",
        "head.safetensors",
    ]


def test_another_encoder_is_refused(encoder, tmp_path):
    head_for(encoder).save(tmp_path)
    other = load_encoder(toys.encoder_config("whisper"))
    CtcHead.from_pretrained(tmp_path, other)  # the same weights
    with torch.no_grad():
        other.model.layers[0].fc1.weight[0, 0] += 1
    with pytest.raises(CheckpointError, match=r"for another encoder.*train-head"):
        CtcHead.from_pretrained(tmp_path, other)
    full = load_encoder(toys.encoder_config("whisper", window="full"))  # hears its padding
    with pytest.raises(CheckpointError, match="for another encoder"):
        CtcHead.from_pretrained(tmp_path, full)


def test_adapters_make_another_encoder(encoder):
    peft = pytest.importorskip("peft")
    other = load_encoder(toys.encoder_config("whisper"))
    assert encoder_id(other) == encoder_id(encoder)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["fc1"]), other.model)
    assert encoder_id(other) != encoder_id(encoder)


def test_pooled_frames_are_read_before_pooling(encoder):
    pooled = load_encoder(toys.encoder_config("whisper", pool=(5, 1)))
    assert encoder_id(pooled) == encoder_id(encoder)
    clips = toys.clips(16_000)
    frames = unpooled(pooled)(pooled.features(clips))[0]
    assert torch.equal(frames, encoder(encoder.features(clips))[0])
    assert unpooled(pooled).model is pooled.model


def damage_nothing(folder):
    (folder / "config.json").unlink()


def damage_key(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "hiden": 3}))


def damage_weights(folder):
    (folder / "head.safetensors").write_bytes(b"\x00" * 40)


def damage_shape(folder):
    stored = load_file(folder / "head.safetensors")
    save_file({**stored, "leave.bias": torch.zeros(3)}, folder / "head.safetensors")


def damage_alphabet(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("xyz", "xyzä"))


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (damage_nothing, CheckpointError, "no CTC head"),
        (damage_key, ConfigError, "Did you mean 'hidden'"),
        (damage_weights, CheckpointError, "cannot be read"),
        (damage_shape, CheckpointError, "other weights"),
        (damage_alphabet, CheckpointError, "characters"),
    ],
)
def test_what_is_not_whole_does_not_load(encoder, tmp_path, damage, error, says):
    head_for(encoder).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=says):
        CtcHead.from_pretrained(tmp_path, encoder)


def test_a_path_collapses_to_its_text():
    ids = encode_characters("see it's")
    assert decode_path([i for c in ids for i in (c, c, 0)]) == "see it's"
    assert decode_path([0, 0]) == ""


@pytest.mark.parametrize(
    ("word", "spelling"),
    [
        ("Hello,", "hello"),
        ("it’s", "it's"),
        ("café", "cafe"),
        ("twenty-one", "twenty one"),
        ("12", ""),
        ("mp3", ""),
        ("мир", ""),
        ("straße", ""),
        ("…", ""),
        ("", ""),
    ],
)
def test_words_are_spelled_or_not_guessed(word, spelling):
    assert spell(word) == spelling
