"""What training leaves on disk is what it wrote, or is refused by name."""

import pytest
import torch
import toys
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tiny_audio.model.encoder import empty_encoder
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.train.frames import FrameCache
from tiny_audio.train.saves import CHECKSUM, read_counters, read_save, write_save
from tiny_audio.train.track import METRICS, forget_after

FRAMES = torch.randn(40, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def save(tmp_path):
    path = tmp_path / "step-00000003.safetensors"
    write_save(
        path, {"module.a": torch.arange(6.0), "random.torch": torch.ones(5).byte()}, {"a": 1}
    )
    return path


@pytest.fixture(scope="module")
def encoder():
    return empty_encoder(toys.encoder_config("whisper"))


def flip_a_bit(path, at):
    """Flip the lowest bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def without_checksum(path):
    """The file as earlier versions wrote it."""
    with safe_open(path, "pt") as file:
        notes = {k: v for k, v in file.metadata().items() if k != CHECKSUM}
    save_file({name: t.clone() for name, t in load_file(path).items()}, path, notes)


def test_a_save_is_read_as_it_was_written(save):
    assert torch.equal(read_save(save)["module.a"], torch.arange(6.0))
    assert read_counters(save) == {"a": 1}


@pytest.mark.parametrize("at", [-1, -20])  # of either tensor
def test_a_flipped_bit_of_a_save_is_found(save, at):
    flip_a_bit(save, at)
    with pytest.raises(CheckpointError, match=f"{save.name} is damaged.*save before it"):
        read_save(save)


def test_a_save_without_a_whole_header_is_refused(save):
    save.write_bytes(save.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="is damaged"):
        read_counters(save)


def test_changed_counters_of_a_save_are_found(save):
    data = save.read_bytes()
    save.write_bytes(data.replace(rb"{\"a\": 1}", rb"{\"a\": 2}"))
    assert read_counters(save) == {"a": 2}
    with pytest.raises(CheckpointError, match="not those written"):
        read_save(save)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "step-00000001.safetensors"
    write_save(path, {"module.a": torch.tensor([1.0, torch.nan])}, {})
    with pytest.raises(CheckpointError, match=r"NaN or Inf in module\.a"):
        read_save(path)


def test_a_save_of_an_earlier_version_is_used_with_a_note(save, capsys):
    without_checksum(save)
    assert torch.equal(read_save(save)["module.a"], torch.arange(6.0))
    assert f"{save.name} has no checksum" in capsys.readouterr().err.replace("\n", "")


def test_a_flipped_bit_of_frames_is_found(encoder, tmp_path, capsys):
    cache = FrameCache(tmp_path, encoder)
    cache.add([("a", FRAMES)])
    cache.flush()
    shard = next(tmp_path.glob("*.safetensors"))
    assert torch.equal(FrameCache(tmp_path, encoder)["a"], FRAMES.bfloat16())
    assert "checksum" not in capsys.readouterr().err
    flip_a_bit(shard, -3)
    with pytest.raises(CheckpointError, match=f"{shard.name} is damaged.*made again"):
        FrameCache(tmp_path, encoder)["a"]
    flip_a_bit(shard, -3)
    without_checksum(shard)
    assert torch.equal(FrameCache(tmp_path, encoder)["a"], FRAMES.bfloat16())
    assert "has no checksum" in capsys.readouterr().err


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_frames_that_are_no_numbers_are_not_kept(encoder, tmp_path, value):
    frames = FRAMES.clone()
    frames[3, 3] = value
    with pytest.raises(CheckpointError, match="NaN or Inf of a clip of 40 frames"):
        FrameCache(tmp_path, encoder).add([("a", frames)])


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"step": "x"}', "\xff", "[" * 5000])
def test_a_damaged_row_of_metrics_is_a_sentence_with_the_cure(tmp_path, line):
    (tmp_path / METRICS).write_bytes(f"{line}\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"1 is no row of JSON.*Delete this line"):
        forget_after(tmp_path, "only", 3)
