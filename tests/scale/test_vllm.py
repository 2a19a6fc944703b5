"""The model in vLLM writes what it writes here. vLLM has an environment of its own:

docs/guides/scale.md says how to make it, and how these tests are run there.
"""

import json
import tomllib
from importlib import import_module

import pytest
import toys

from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.prompt import AUDIO_TOKEN, render, transcription_turns
from tiny_audio.presets import SHIPPED, shipped
from tiny_audio.scale import vllm_plugin


def test_vllm_finds_the_plugin_by_its_entry_point():
    project = tomllib.loads((toys.REPOSITORY / "pyproject.toml").read_text())["project"]
    (entry,) = project["entry-points"]["vllm.general_plugins"].values()
    module, name = entry.split(":")
    assert getattr(import_module(module), name) is vllm_plugin.register


@pytest.mark.parametrize("name", SHIPPED)
def test_a_checkpoint_names_the_class_that_the_plugin_serves(name):
    config = json.loads((shipped(name) / "config.json").read_text())
    assert config["architectures"] == [vllm_plugin.ARCHITECTURE]


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.32.0", True), ("0.32.1+cpu", True), ("0.31.2", False), ("0.33.0", False), ("1.0", False)],
)
def test_other_versions_of_vllm_are_refused(version, good):
    """Its classes change without notice, so each version is tried before it is allowed."""
    if good:
        vllm_plugin.check(version)
    else:
        with pytest.raises(ImportError, match=r"0\.32"):
            vllm_plugin.check(version)


# With vLLM -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    vllm = pytest.importorskip("vllm", reason="vLLM is in an environment of its own")
    folder = shipped("nano")
    return vllm.LLM(
        model=str(folder),
        tokenizer=str(folder / "decoder"),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=4,
        enforce_eager=True,
    )


def test_texts_are_those_of_the_transcriber(engine):
    """Eight clips of different lengths at once, four in a batch."""
    from vllm import SamplingParams

    nano = Transcriber.from_pretrained("nano")
    config = nano.model.config
    turns = transcription_turns(config.prompt)
    prompt = render(turns, [1], engine.get_tokenizer(), config.prompt)
    assert prompt.ids.count(engine.get_tokenizer().convert_tokens_to_ids(AUDIO_TOKEN)) == 1
    clips = [load_audio(path).samples for path, _ in toys.samples()]
    asked = [
        {
            "prompt_token_ids": list(prompt.ids),
            "multi_modal_data": {"audio": (clip.numpy(), SAMPLE_RATE)},
        }
        for clip in clips
    ]
    params = SamplingParams(temperature=0, max_tokens=100, stop_token_ids=config.stop_token_ids)
    found = [out.outputs[0].text.strip() for out in engine.generate(asked, params)]
    expected = [nano.transcribe(clip, sampling_rate=SAMPLE_RATE, whole=True).text for clip in clips]
    assert found == expected
