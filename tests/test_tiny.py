"""tiny as it is shipped: small, whole, and of use on a human voice."""

import pytest
import torch

from tiny_audio import Transcriber
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.infer.transcriber import Request, Window
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.sources import located
from tiny_audio.presets import SHIPPED, preset

ADDRESS = SHIPPED["tiny"].parents[2] / "samples" / "address-1961.flac"
SPOKEN = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do "
    "for your country."
)
MOST_BYTES = 24_000_000
MOST_ERRORS = 0.2  # 2 of 22 words when the weights were packed


@pytest.fixture(scope="module")
def tiny() -> Transcriber:
    """The default model; its frozen parts are packages of the dev environment."""
    try:
        located(preset("tiny").decoder.source)
        located(preset("tiny").encoder.source)
    except CheckpointError as error:
        pytest.skip(str(error))
    return Transcriber.from_pretrained("tiny")


def test_what_is_shipped_is_small_and_holds_no_frozen_part():
    files = [
        path for path in SHIPPED["tiny"].rglob("*") if path.suffix in (".safetensors", ".json")
    ]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.name for path in files} >= {"trained.safetensors", "head.safetensors"}


def test_a_human_voice_is_written_down_with_case_and_marks(tiny):
    transcript = tiny.transcribe(ADDRESS)
    plain = normalizer()
    found = word_errors([plain(SPOKEN)], [plain(transcript.text)])
    assert found["wer"] <= MOST_ERRORS
    assert transcript.complete
    assert transcript.text[0].isupper()
    assert transcript.text[-1] in ".?!"


@torch.inference_mode()
def test_it_is_decoded_as_its_configuration_says_and_a_batch_gives_what_its_clips_give(tiny):
    own = tiny.model.config.decoding
    assert own.beams > 1
    assert [type(head.module).__name__ for head in tiny.heads] == ["TokenHead", "CtcHead"]
    whole = load_audio(ADDRESS).samples
    windows = [Window(0, part) for part in (whole[:48_000], whole[80_000:], whole[16_000:56_000])]
    together = tiny.write_prompts(windows, *tiny.encode(windows))
    alone = [tiny.write_prompts([each], *tiny.encode([each]))[0] for each in windows]
    assert [written.tokens for written in together] == [written.tokens for written in alone]
    greedy = tiny.write_prompts(windows, *tiny.encode(windows), Request(beams=1))
    assert [written.tokens for written in greedy] != [written.tokens for written in together]


def test_words_have_times_in_order(tiny):
    transcript = tiny.transcribe(ADDRESS, timestamps="word")
    words = [word for segment in transcript.segments for word in segment.words or ()]
    assert len(words) == len(transcript.text.split())
    starts = [word.start_s for word in words if word.start_s is not None]
    assert len(starts) >= 0.8 * len(words)
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] < 11.5


def test_silence_and_noise_give_no_text(tiny):
    torch.manual_seed(0)
    for clip in (torch.zeros(48_000), 0.01 * torch.randn(48_000)):
        assert tiny.transcribe(clip, sampling_rate=16_000).text == ""
