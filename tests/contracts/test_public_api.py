"""The public surface: what `tiny_audio` promises is there, and nothing else is."""

import inspect
import subprocess
import sys

import pytest

import tiny_audio
from tiny_audio.presets import NANO

PUBLIC = (
    "ASRConfig ASRModel AudioError AudioLM AudioLMConfig AudioProcessor CheckpointError "
    "ConfigError EncoderError PromptError TinyAudioError Transcriber Transcript __version__ "
    "build load load_audio save"
).split()


def test_public_names_are_exactly_these_and_importable():
    assert sorted(tiny_audio.__all__) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(tiny_audio, name) is not None


def test_the_courses_names_give_the_same_classes():
    config = tiny_audio.ASRConfig.from_pretrained(NANO)
    assert type(config) is tiny_audio.AudioLMConfig
    assert isinstance(tiny_audio.ASRModel(config), tiny_audio.AudioLM)
    model = tiny_audio.ASRModel.from_pretrained(NANO, config=config)
    ids = model.tokenizer("hello world", return_tensors="pt").input_ids
    assert model.decoder.get_input_embeddings()(ids).shape[-1] == config.llm_dim


def test_parts_are_handed_in():
    names = list(inspect.signature(tiny_audio.AudioLM).parameters)
    assert names[:3] == ["encoder", "projector", "decoder"]


def test_importing_the_package_loads_no_torch_and_an_unknown_name_is_an_attribute_error():
    code = (
        "import sys, tiny_audio\n"
        "assert 'torch' not in sys.modules\n"
        "try: tiny_audio.nonsense\n"
        "except AttributeError as error: assert 'nonsense' in str(error)\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.audio", "data.examples", "serve.decode_worker"])
def test_what_only_reads_audio_imports_no_transformers(name):
    """They are seconds, in every process that decodes uploads."""
    code = f"import sys, tiny_audio.{name}; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
