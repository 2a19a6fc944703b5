"""Steps 1 and 2: every source gives the same mono float32 samples, or an error with a cure."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import encode, encode_media

from tiny_audio.model.audio import Audio, DecodeLimits, load_audio, stream_audio
from tiny_audio.model.errors import AudioError, ConfigError, MissingExtra, PromptError, nearest

RATES = [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000]


def tone(rate: int, seconds: float = 0.25, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype("f4")


def loudest_hz(audio: Audio) -> float:
    spectrum = torch.fft.rfft(audio.samples * torch.hann_window(len(audio.samples))).abs()
    return spectrum.argmax().item() * audio.sampling_rate / len(audio.samples)


def rms(samples: torch.Tensor) -> float:
    return samples.square().mean().sqrt().item()


def noise(num: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(num) * scale).astype("f4")


# -- decode, mix, resample ------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", RATES)
def test_length_level_and_frequency_survive(rate: int, channels: int, subtype: str) -> None:
    clip = np.stack([tone(rate)] * channels, axis=1)
    audio = load_audio(encode(clip, rate, "WAV", subtype))
    assert audio.sampling_rate == 16_000
    assert audio.samples.dtype == torch.float32
    assert abs(len(audio.samples) - len(clip) * 16_000 / rate) <= 1
    assert abs(loudest_hz(audio) - 440) <= 4
    assert rms(audio.samples) == pytest.approx(0.5 / 2**0.5, rel=0.02)
    assert not audio.notes


@pytest.mark.parametrize(("rate", "hz"), [(48_000, 12_000), (44_100, 9_000), (192_000, 30_000)])
def test_resampling_does_not_alias(rate: int, hz: int) -> None:
    samples = load_audio(tone(rate, 1.0, hz), rate).samples
    assert rms(samples[1600:-1600]) < 0.002  # slicing every third sample would keep 0.35


def test_blocks_resample_like_the_whole() -> None:
    """More than one decoded block: no seam, no drift (each block alone would add samples)."""
    soxr = pytest.importorskip("soxr")
    clip = noise(44_100 * 3)
    samples = load_audio(clip, 44_100).samples.numpy()
    assert abs(len(samples) - 48_000) <= 1
    whole = soxr.resample(clip, 44_100, 16_000, quality="HQ")
    assert np.abs(samples[:47_990] - whole[:47_990]).max() < 1e-5


@settings(max_examples=60, deadline=None)
@given(
    num=st.integers(1, 20_000),
    rate=st.integers(1_000, 384_000),
    channels=st.integers(1, 8),
    target=st.sampled_from([8_000, 16_000, 24_000]),
)
def test_length_for_any_rate_and_channels(num: int, rate: int, channels: int, target: int) -> None:
    clip = np.zeros((channels + num, channels), np.float32)  # more frames than channels
    expected = len(clip) * target / rate
    try:
        num_out = len(load_audio(clip, rate, target_rate=target).samples)
    except AudioError:
        num_out = 0
    assert abs(num_out - expected) <= 1
    assert num_out or expected < 1  # only what is shorter than one sample is refused


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "subtype", "slack"),
    [
        ("WAV", "PCM_16", 0), ("WAVEX", "PCM_24", 0), ("RF64", "PCM_16", 0), ("W64", "PCM_16", 0),
        ("AIFF", "PCM_16", 0), ("AU", "PCM_16", 0), ("CAF", "PCM_16", 0), ("NIST", "PCM_16", 0),
        ("FLAC", "PCM_16", 0), ("MP3", None, 0), ("OGG", "VORBIS", 0), ("OGG", "OPUS", 1),
    ],
)  # fmt: skip
def test_soundfile_formats(container: str, subtype: str | None, slack: int) -> None:
    audio = load_audio(encode(tone(16_000, 1.0), 16_000, container, subtype))
    assert abs(len(audio.samples) - 16_000) <= slack
    assert abs(loudest_hz(audio) - 440) <= 1
    assert rms(audio.samples) > 0.3


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "aac"), ("adts", "aac"), ("webm", "libopus"), ("mov", "pcm_f32le")],
)
def test_media_formats(container: str, codec: str) -> None:
    audio = load_audio(encode_media(tone(48_000, 1.0), 48_000, container, codec))
    assert -0.01 <= audio.duration_s - 1.0 <= 0.06  # encoders add a little at both ends
    assert abs(loudest_hz(audio) - 440) <= 2
    assert rms(audio.samples) == pytest.approx(0.5 / 2**0.5, rel=0.06)


def test_eight_channels_of_aac() -> None:
    """PyAV 18.1 crashes on planar frames of 8 channels; we read them packed."""
    clip = np.stack([tone(48_000, 0.5)] * 8, axis=1).reshape(-1)
    audio = load_audio(encode_media(clip, 48_000, "mp4", "aac", "7.1"))
    assert 0.49 < audio.duration_s < 0.56


def test_tags_that_are_not_utf8() -> None:
    data = encode_media(tone(16_000), 16_000, "mp4", "aac")
    at = data.rindex(b"Lavf")
    assert load_audio(data[:at] + b"\xe9" + data[at + 1 :]).duration_s > 0.2


def test_media_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_media(tone(16_000), 16_000, "mp4", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'tiny-audio[media]'")):
        load_audio(data)


@pytest.mark.parametrize("name", ["clip.raw", "clip.mp3", "clip.vox", "clip.txt", "clip"])
def test_contents_decide_not_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encode(tone(16_000), 16_000, "FLAC"))
    assert abs(loudest_hz(load_audio(tmp_path / name)) - 440) <= 4


# -- sources --------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Bytes that can only be read once, from front to back."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, 1000))

    def seekable(self) -> bool:
        return False


def test_every_source_gives_the_same_samples(tmp_path: Path) -> None:
    values = (tone(44_100) * 32767).astype("i2")
    data = encode(values, 44_100)
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    at_end = io.BytesIO(data)
    at_end.seek(0, io.SEEK_END)
    expected = load_audio(path).samples
    assert len(expected) == 4000
    for source in (str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), at_end):
        assert torch.equal(load_audio(source).samples, expected)
    for source in (Pipe(data), {"bytes": data, "path": None}, {"path": str(path), "bytes": None}):
        assert torch.equal(load_audio(source).samples, expected)
    with path.open("rb") as file:
        assert torch.equal(load_audio(file).samples, expected)
    for array in (values, torch.from_numpy(values), values[None], values[:, None]):
        assert torch.equal(load_audio(array, 44_100).samples, expected)
    as_dict = {"array": values, "sampling_rate": 44_100, "path": "a.wav"}
    assert torch.equal(load_audio(as_dict).samples, expected)
    again = load_audio(load_audio(path))
    assert torch.equal(again.samples, expected)
    assert again.source == str(path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_array_types_are_scaled(dtype: str) -> None:
    full = {"u1": 128, "i1": 128, "i2": 2**15, "i4": 2**31}.get(dtype, 2)
    values = np.linspace(-1, 1, 200) * (full - 1) * 0.9 + (128 if dtype == "u1" else 0)
    samples = load_audio(values.astype(dtype), 16_000).samples
    assert samples.dtype == torch.float32
    assert np.abs(samples.numpy() - np.linspace(-0.9, 0.9, 200)).max() < 0.02


def test_torch_types() -> None:
    clip = torch.from_numpy(tone(16_000)).requires_grad_()
    assert torch.equal(load_audio(clip, 16_000).samples, clip.detach())
    assert len(load_audio(clip.to(torch.bfloat16), 16_000).samples) == len(clip)


def test_result_is_a_copy() -> None:
    clip = tone(16_000)
    load_audio(clip, 16_000).samples.zero_()
    assert clip.any()


def test_a_stream_is_the_whole_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    path.write_bytes(encode(noise(44_100 * 2), 44_100, "FLAC"))
    blocks = list(stream_audio(path, block_s=0.3))
    assert [len(block) for block in blocks[:-1]] == [4800] * 6
    assert 0 < len(blocks[-1]) <= 4800
    assert torch.equal(torch.cat(blocks), load_audio(path).samples)


@pytest.mark.slow
def test_a_stream_stays_small_where_a_load_stops() -> None:
    hours = encode(np.zeros(8000 * 7200, np.int16), 8000, "FLAC")  # 2 h in about 200 kB
    with pytest.raises(AudioError, match=r"7,200 s .* limit is 1,800 s\. Use stream_audio"):
        load_audio(hours)
    first = next(stream_audio(hours, block_s=1.0))
    assert len(first) == 16_000
    assert not first.any()


# -- silence, mixdown, clipping -------------------------------------------------------------------


def test_silence_is_audio() -> None:
    audio = load_audio(np.zeros(1600, np.float32), 16_000)
    assert not audio.samples.any()
    assert not audio.notes
    assert not load_audio(np.zeros((2, 1600)), 16_000).notes


def test_antiphase_is_noted_and_a_channel_can_be_taken() -> None:
    left = tone(16_000)
    clip = np.stack([left, -left])
    mixed = load_audio(clip, 16_000)
    assert rms(mixed.samples) == 0
    assert "lost more than 10 dB" in mixed.notes[0]
    for channel, sign in ((0, 1), (1, -1)):
        taken = load_audio(clip, 16_000, channel=channel)
        assert torch.equal(taken.samples, torch.from_numpy(sign * left))
        assert not taken.notes
    with pytest.raises(AudioError, match=r"no channel=2\. Use a channel from 0 to 1"):
        load_audio(clip, 16_000, channel=2)


def test_unrelated_channels_are_not_noted() -> None:
    assert not load_audio(np.stack([noise(9000, seed) for seed in range(6)]), 16_000).notes


def test_clipping_is_noted() -> None:
    assert "clipped" in load_audio(np.clip(tone(16_000) * 4, -1, 1), 16_000).notes[0]


def test_a_level_at_which_words_get_lost_is_noted() -> None:
    faint = load_audio(tone(16_000) * 1e-3, 16_000).notes
    assert "dB below full scale" in faint[0]
    for level in (0.0, 0.01):
        assert not load_audio(tone(16_000) * level, 16_000).notes


class Interrupting(io.BytesIO):
    """A file at whose fourth reading somebody presses Ctrl-C."""

    num_reads = 0

    def read(self, *size: Any) -> bytes:
        self.num_reads += 1
        if self.num_reads == 4:
            signal.raise_signal(signal.SIGINT)
        return super().read(*size)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_an_interruption_while_a_file_is_decoded_is_not_lost(kind: str) -> None:
    data = encode(noise(160_000), 16_000, kind)
    file = Interrupting(data)
    with pytest.raises(KeyboardInterrupt):
        load_audio(file)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_audio(file).samples.equal(load_audio(data).samples)


# -- never silently shorter -----------------------------------------------------------------------


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64", "RF64", "NIST", "FLAC", "MP3"])
def test_a_cut_file_says_how_much_is_left(container: str) -> None:
    clip = noise(16_000 * 4)
    data = encode(clip, 16_000, container)
    cut = data[: len(data) // 2]
    with pytest.raises(
        AudioError, match=r"the first \d\.\d\d s are readable.*allow_truncated=True"
    ):
        load_audio(cut)
    audio = load_audio(cut, allow_truncated=True)
    assert 0.9 < audio.duration_s < 2.2
    assert audio.notes


@pytest.mark.parametrize(("container", "codec"), [("adts", "aac"), ("webm", "libopus")])
def test_a_cut_media_file_says_so(container: str, codec: str) -> None:
    data = encode_media(noise(48_000 * 2), 48_000, container, codec)
    with pytest.raises(AudioError, match="are readable"):
        load_audio(data[: len(data) // 2])
    assert load_audio(data[: len(data) // 2], allow_truncated=True).notes


def encode_vbr(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE"}
    with soundfile.SoundFile(out, "w", 44_100, 1, **kind) as file:
        file.write(samples)
    return out.getvalue()


def test_mp3_without_a_length_header_is_read_to_its_end() -> None:
    """libsndfile guesses the length from the first frames: 1.7 s of these 5."""
    data = encode_vbr(noise(44_100 * 5, scale=0.3))
    assert load_audio(data).duration_s == 5.0
    headless = data[data.index(b"\xff\xfb", 4) :]
    assert 4.98 < load_audio(headless).duration_s < 5.1
    with_tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + headless + b"TAG" + bytes(125)
    assert 4.98 < load_audio(with_tag).duration_s < 5.1


def test_a_cut_opus_file_is_noted() -> None:
    """Its pages carry no total; only the mark of the last page is missing."""
    data = encode(noise(48_000), 16_000, "OGG", "OPUS")
    assert not load_audio(data).notes
    cut = load_audio(data[: len(data) // 2])
    assert cut.duration_s < 2
    assert "may have been cut off" in cut.notes[0]


class Drips(io.BytesIO):
    """Gives at most 100 bytes at once, as a network file may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 100))


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG"])
def test_short_reads_are_not_the_end(container: str) -> None:
    data = encode(noise(16_000), 16_000, container)
    assert torch.equal(load_audio(Drips(data)).samples, load_audio(data).samples)


class FailsHalfway(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 20_000:
            raise OSError("disk gone")
        return super().read(size)


def test_a_source_that_fails_is_not_a_short_one() -> None:
    with pytest.raises(AudioError, match=r"cut off|reading failed"):
        load_audio(FailsHalfway(encode(noise(40_000), 16_000)))
    with pytest.raises(AudioError, match="reading failed"):
        load_audio(FailsHalfway(encode_media(noise(160_000), 16_000, "adts", "aac")))


def test_closed_and_text_files(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encode(tone(16_000), 16_000))
    closed = path.open("rb")
    closed.close()
    text = path.open(encoding="latin-1")
    for file in (closed, text):
        with pytest.raises(AudioError, match="Open it again, in mode 'rb'"):
            load_audio(file)
    text.close()


# -- refusals -------------------------------------------------------------------------------------

ZEROS = np.zeros(1600, np.float32)


@pytest.mark.parametrize(
    ("source", "rate", "words"),
    [
        (ZEROS, None, "no sampling_rate. Pass it"),
        (torch.zeros(9), None, "no sampling_rate. Pass it"),
        ({"array": ZEROS}, None, "no sampling_rate"),
        ((ZEROS, 16_000), None, "Pass the samples alone, and their rate as sampling_rate"),
        ([ZEROS, ZEROS], 16_000, "several go to transcribe_many"),
        ((number for number in ZEROS), 16_000, "numbers into np.array first"),
        (5, None, "int is not a path"),
        ({"audio": {"array": ZEROS}}, 16_000, "neither 'array' nor 'bytes' nor 'path'"),
        (torch.empty(9, device="meta"), 16_000, "a tensor without plain values"),
        (torch.zeros(9).to_sparse(), 16_000, "a tensor without plain values"),
        (ZEROS, 1, "expected a whole number from 1000 to 384000"),
        (ZEROS, 16_000.5, "expected a whole number"),
        (ZEROS, float("nan"), "expected a whole number"),
        (ZEROS, "16000", "expected a whole number"),
        (ZEROS[:0], 16_000, "no samples"),
        (np.zeros((2, 0)), 16_000, "no samples"),
        (ZEROS[:1], 384_000, "shorter than one sample"),
        (np.full(9, np.nan), 16_000, "NaN or Inf in the samples after 0.00 s"),
        (np.full(9, 1e300), 16_000, "NaN or Inf"),
        (tone(16_000) * 32767, 16_000, "Divide by full scale"),
        (np.zeros(9, np.int64), 16_000, "int64 has no known full scale"),
        (np.zeros(9, bool), 16_000, "bool has no known full scale"),
        (np.zeros(9, complex), 16_000, "complex128 has no known full scale"),
        (np.zeros((9, 9)), 16_000, "shape (9, 9)"),
        (np.zeros((2, 3, 4)), 16_000, "shape (2, 3, 4)"),
        (np.zeros((70, 7000)), 16_000, "70 channels, expected 1 to 64"),
        (encode(ZEROS, 8000), 16_000, "its rate is 8000 Hz but sampling_rate=16000"),
        (encode(ZEROS[:0], 16_000), None, "no samples in it"),
        (b"", None, "0 bytes"),
        (b"<html>", None, "not audio that can be read"),
        (io.StringIO("text"), None, "Open it again, in mode 'rb'"),
        ("https://example.org/a.wav", None, "from the network. Download the file first"),
        ("file:///etc/passwd", None, "nothing is fetched"),
        ("missing.wav", None, "no such file"),
        ("/", None, "a folder, pipe or device"),
        ("a\0b.wav", None, "cannot be opened"),
        ([0.0, 0.1], 16_000, "list is not a path"),
        (None, None, "NoneType is not a path"),
        ({}, None, "neither 'array' nor 'bytes' nor 'path'"),
    ],
)
def test_refusals_name_the_cure(source: Any, rate: Any, words: str) -> None:
    with pytest.raises(AudioError, match=re.escape(words)) as caught:
        load_audio(source, rate)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).endswith(".")


def test_pipes_and_devices_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(AudioError, match="a folder, pipe or device"):
            load_audio(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(encode(ZEROS, 16_000))
    path.chmod(0)
    with pytest.raises(AudioError, match="no permission"):
        load_audio(path)


def test_limits() -> None:
    data = encode(np.zeros(32_000, np.float32), 16_000)
    with pytest.raises(AudioError, match=r"2 s long and the limit is 1 s"):
        load_audio(data, limits=DecodeLimits(max_seconds=1))
    for source in (data, Pipe(data)):
        with pytest.raises(AudioError, match="more than 1,000 bytes"):
            load_audio(source, limits=DecodeLimits(max_bytes=1000))
    with pytest.raises(AudioError, match="limit is 1 s"):
        load_audio(ZEROS.repeat(20), 16_000, limits=DecodeLimits(max_seconds=1))


# -- errors ---------------------------------------------------------------------------------------


def test_errors_say_what_to_type() -> None:
    assert nearest("learning_rat", ["learning_rate", "steps"]) == "learning_rate"
    assert nearest("zzz", ["learning_rate"]) is None
    assert "Did you mean 'steps'?" in str(ConfigError.unknown("step", ["steps", "lora"], "Stage"))
    assert "Valid: lora, steps." in str(ConfigError.unknown("zzz", ["steps", "lora"], "Stage"))
    message = str(PromptError.counts(12, 11, "clip.wav"))
    assert "12 audio placeholders" in message
    assert "11 embeddings" in message
