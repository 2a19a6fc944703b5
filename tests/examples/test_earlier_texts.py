"""The exercises of the seeds run as they were printed, with import lines and ids changed."""

import os
import re
import subprocess

import pytest
import torch
import toys

from tiny_audio.model.encoder import features
from tiny_audio.model.errors import ConfigError, EncoderError
from tiny_audio.presets import load

pytestmark = pytest.mark.slow
RECIPE = toys.REPOSITORY / "examples" / "earlier.sed"
# Each script with the text that holds it, what it must print with nano, and what it draws.
SCRIPTS = {
    "explore_audio": (
        "001",
        ["Sample rate: 16000 Hz", "Shape: torch.Size([1, 79920])", "Std: 1.0000"],
        ["audio_processing.png"],
    ),
    "explore_hubert": (
        "001",
        ["Shape: torch.Size([1, 79920])", "time_steps=250, embedding_dim=256", "319.7x"],
        [],
    ),
    "count_params": (
        "001",
        ["4,334,592", "591,104", "3,049,600", "7,975,296", "7.41%"],
        [],
    ),
    "trace_projector": (
        "000",
        ["[batch=1, time=250, dim=256]", "Padded sequence: 250 → 252", "torch.Size([1, 63, 1024])"],
        [],
    ),
    "visualize_projector": ("000", ["Audio (HuBERT)"], ["embedding_distributions.png"]),
    # Its sums are its own: right, where the table printed beside it is not.
    "test_projector_config": (
        "000",
        ["121,643,264", "60,825,856", "184,561,664", "58,724,864", "166.7"],
        [],
    ),
    "trace_data": (
        "002",
        ["torch.Size([1, 250, 256])", "Downsampled by 4x", "Projected from 256 to 256"],
        ["encoder_output.png", "projector_output.png"],
    ),
}


def printed(shared, text, name):
    """The script as the text prints it: the first block after its heading."""
    (path,) = (shared / "seeds").glob(f"{text}_*.txt")
    after = path.read_text().split(f"Create `{name}.py`", 1)[1]
    return re.search(r"```python\n(.*?)```", after, re.S)[1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_with_its_import_lines_and_ids_changed(name, shared, tmp_path, python):
    text, expected, drawn = SCRIPTS[name]
    (tmp_path / "samples").symlink_to(toys.REPOSITORY / "samples")
    original = printed(shared, text, name)
    changed = subprocess.run(
        ["sed", "-E", "-f", str(RECIPE)], input=original, capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "mine.py").write_text(changed)
    done = subprocess.run(
        [python, "mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    assert not [one for one in expected if one not in done.stdout], done.stdout
    assert sorted(path.name for path in tmp_path.glob("*.png")) == drawn


def test_the_changes_touch_nothing_but_imports_ids_the_file_and_one_misprint(shared):
    for name, (text, *_) in SCRIPTS.items():
        original = printed(shared, text, name)
        command = ["sed", "-E", "-f", str(RECIPE)]
        changed = subprocess.run(command, input=original, capture_output=True, text=True).stdout
        kept = [line for line in original.splitlines() if line != "import librosa.display"]
        pairs = zip(kept, changed.splitlines(), strict=True)
        different = [(a, b) for a, b in pairs if a != b]
        known = r'import |mazesmazes|facebook/hubert|librispeech_asr_dummy|"test\.wav"|outpu t'
        assert all(re.search(known, before) for before, _ in different), different


@pytest.mark.parametrize("name", ["nano", "hubert"])
def test_an_encoder_called_as_in_transformers_gives_the_same_frames(name):
    model = load("nano") if name == "nano" else toys.toy_preset("hubert_swiglu_qwen3").build()
    clips = toys.clips(16_000, 9_000)
    made = features(model.config.encoder, clips)
    frames_BTE, lengths_B = model.encoder(made)
    if name == "nano":
        padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        mask = torch.tensor([[1] * 16_000, [1] * 9_000 + [0] * 7_000])
        again = model.encoder(input_values=padded, attention_mask=mask)
        alone = model.encoder(input_features=made.values[:1]).last_hidden_state
        assert alone.shape[1] == lengths_B[0]
    else:
        mask = (torch.arange(16_000)[None] < made.lengths_B[:, None]).long()
        again = model.encoder(input_values=made.values, attention_mask=mask)
    torch.testing.assert_close(again.last_hidden_state, frames_BTE)


def test_what_an_encoder_does_not_take_is_refused():
    model = load("nano")
    with pytest.raises(EncoderError, match="input_values"):
        model.encoder(pixels=torch.zeros(1, 3))
    with pytest.raises(EncoderError, match="nothing"):
        model.encoder()


def test_names_of_earlier_texts_fetch_nothing_and_change_no_rate():
    from tiny_audio.course import librosa, load_dataset

    with pytest.raises(ConfigError, match="sr=16000"):
        librosa.load("samples/01.flac", sr=22_050)
    with pytest.raises(ConfigError, match="Nothing is fetched"):
        load_dataset("hf-internal-testing/librispeech_asr_dummy", "clean", split="validation")
