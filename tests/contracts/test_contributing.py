"""CONTRIBUTING keeps its word."""

import ast
import re

import pytest
import torch
import toys

from tiny_audio.model.checkpoint import load
from tiny_audio.model.encoder import ENCODERS, WAVEFORM, EncoderConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.saving import save


@pytest.mark.slow
def test_an_encoder_is_added_in_one_line(monkeypatch, tmp_path):
    """CONTRIBUTING's example: a model of transformers, one line in the table."""
    name = "unispeech-sat"
    assert f"`{name}`" in (toys.REPOSITORY / "CONTRIBUTING.md").read_text()
    with pytest.raises(ConfigError, match=f"no '{name}'"):
        EncoderConfig(architecture={"model_type": name})
    monkeypatch.setitem(ENCODERS, name, WAVEFORM)
    monkeypatch.setitem(toys.ENCODERS, name, {"model_type": name, **toys.WAVEFORM})
    model = toys.toy_preset("whisper_tiny").with_sources(toys.encoder_folder(name)).build()
    clips = toys.clips(9_000, 400, 23_456)
    together, lengths_B = model.encoder(model.encoder.features(clips))
    for row, length, clip in zip(together, lengths_B.tolist(), clips, strict=True):
        assert length == model.config.encoder.frames_for(len(clip))
        alone = model.encode(clip, 16_000)[0]
        torch.testing.assert_close(row[:length], alone, rtol=1e-4, atol=1e-5)
    loaded = load(save(model, tmp_path / "saved", whole=True))
    assert torch.equal(loaded.encode(clips[0], 16_000), model.encode(clips[0], 16_000))


def names_in(source: str) -> set[str]:
    """Functions of a file, and methods as Class.method."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


@pytest.mark.parametrize("way", ["In inference:", "In training:"])
def test_every_stop_of_the_readers_map_exists(way):
    text = (toys.REPOSITORY / "CONTRIBUTING.md").read_text().partition(way)[2]
    stops = re.findall(r"^\d+\. `([\w/]+\.py):([\w.]+)`", text.split("\n\n")[1], re.M)
    assert 8 <= len(stops) <= 12
    for file, name in stops:
        assert name in names_in((toys.REPOSITORY / "tiny_audio" / file).read_text()), (file, name)
