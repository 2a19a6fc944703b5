"""Nothing of a file is lost without a word: each kind of file that decoders read in part."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av")
import av
from model.splices import SOUNDFILE, clip, muxed, sound
from sounds import encode, encode_media

from tiny_audio.model.audio import Audio, load_audio
from tiny_audio.model.errors import AudioError, Reason
from tiny_audio.model.headers import find_region
from tiny_audio.model.source import Note, Reader

RATE = 16_000
SIZE_AT = {"wav": (b"data", 4, "<I"), "aiff": (b"SSND", 4, ">I"), "au": (b".snd", 8, ">I")}
SIZE_AT |= {"caf": (b"data", 4, ">q"), "rf64": (b"ds64", 16, "<q")}


def plain(container: str, seconds: float = 1.3, rate: int = RATE) -> bytes:
    if container != "rf64":
        return clip(container, seconds, rate)
    return encode(sound(seconds, rate), rate, "RF64", "PCM_16")


def sized(container: str, size: int) -> bytes:
    """A plain file whose header announces `size` bytes of sound."""
    data = plain(container)
    mark, behind, order = SIZE_AT[container]
    at = data.index(mark) + behind
    return data[:at] + struct.pack(order, size) + data[at + struct.calcsize(order) :]


def reasons(audio: Audio) -> list[Reason]:
    return [note.reason for note in audio.notes if isinstance(note, Note)]


def missing_s(audio: Audio) -> float:
    return sum(note.missing_s for note in audio.notes if isinstance(note, Note))


def loud_from(audio: Audio) -> float:
    """Where the first sound begins."""
    return int((audio.samples.abs() > 0.05).nonzero()[0]) / RATE


# -- sizes in headers -----------------------------------------------------------------------------


@pytest.mark.parametrize("container", SIZE_AT)
@pytest.mark.parametrize("size", [0, 4_000, -1])
def test_a_size_that_is_zero_too_small_or_unknown_costs_nothing(container: str, size: int) -> None:
    size = 0xFFFFFFFF if size < 0 and container in ("wav", "aiff", "au") else size
    audio = load_audio(sized(container, size))
    assert torch.equal(audio.samples, load_audio(plain(container)).samples)
    assert reasons(audio) == ([Reason.HEADER] if size in (0, 4_000) else [])


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "ULAW", "PCM_U8", "IMA_ADPCM"])
def test_other_codings_are_read_behind_a_false_size(subtype: str) -> None:
    data = encode(sound(1.3, RATE), RATE, "WAV", subtype)
    at = data.index(b"data") + 4
    audio = load_audio(data[:at] + bytes(4) + data[at + 4 :])
    whole = load_audio(data)
    assert abs(len(audio.samples) - len(whole.samples)) < 1_000  # ADPCM comes in blocks
    assert torch.equal(audio.samples[:20_000], whole.samples[:20_000])


def test_a_size_that_wrapped_at_4_gib_ends_where_the_last_chunk_begins(tmp_path: Path) -> None:
    info = (
        b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"
    )
    size = 2**32 + 32_000
    with (tmp_path / "long.wav").open("wb") as file:  # a sparse file
        file.write(clip("wav", 0.8, RATE)[:40] + struct.pack("<I", size % 2**32))
        file.write(b"sound" * 20_000)
        file.seek(44 + size)
        file.write(info)
    with (tmp_path / "long.wav").open("rb") as file:
        region = find_region("wav", Reader(file))
    assert region is not None
    assert (region.start, region.end, region.announced) == (44, 44 + size, 32_000)


@pytest.mark.parametrize("tail", [b"LIST\x04\0\0\0INFO", b"TAG" + bytes(125), b"id3 \x02\0\0\0ab"])
def test_chunks_and_tags_behind_the_sound_are_no_sound(tail: bytes) -> None:
    audio = load_audio(plain("wav") + tail)
    assert len(audio.samples) == 1.3 * RATE
    assert not audio.notes
    with pytest.raises(AudioError, match="no samples"):
        load_audio(plain("wav")[:40] + bytes(4) + b"LIST\x04\0\0\0INFO")


def test_a_flac_that_announces_less_than_there_is() -> None:
    data = plain("flac", 2.1)
    stale = data[:22] + struct.pack(">I", 9_000) + data[26:]
    audio = load_audio(stale)
    assert torch.equal(audio.samples, load_audio(data).samples)
    assert reasons(audio) == [Reason.HEADER]


# -- recordings joined ----------------------------------------------------------------------------


@pytest.mark.parametrize("container", [*SOUNDFILE, "m4a", "webm", "mkv"])
def test_joined_recordings_are_all_read_whatever_their_rates(container: str) -> None:
    parts = [
        clip(container, 0.8, 16_000),
        clip(container, 1.3, 24_000),
        clip(container, 0.8, 48_000),
    ]
    apart = [load_audio(part).samples for part in parts]
    together = load_audio(b"".join(parts))
    assert abs(len(together.samples) - sum(map(len, apart))) <= 3
    near = (
        1e-3 if container != "opus" else 0.1
    )  # opus files start at another phase of the resampler
    assert (together.samples[-10_000:] - apart[-1][-10_000:]).abs().max() < near
    assert set(reasons(together)) <= {Reason.JOINED}
    assert container == "mp3" or reasons(together)


def test_recordings_of_other_kinds_may_follow() -> None:
    audio = load_audio(clip("wav", 0.8, 16_000) + clip("flac", 1.3, 24_000))
    assert audio.duration_s == pytest.approx(2.1, abs=0.001)


def test_a_recording_that_was_cut_before_another_begins() -> None:
    cut = clip("wav", 2.1, RATE)[:-32_000]
    with pytest.raises(AudioError, match=r"announces 2.10 s.* are readable"):
        load_audio(cut + clip("wav", 1.3, RATE))
    audio = load_audio(cut + clip("wav", 1.3, RATE), allow_truncated=True)
    assert audio.duration_s == pytest.approx(1.1 + 1.3, abs=0.001)
    assert missing_s(audio) == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_may_change_its_rate_and_channels(channels: int) -> None:
    bare = encode(np.stack([sound(1.3, 48_000)] * channels, axis=1), 48_000, "MP3")
    bare = bare[bare.index(b"\xff\xfb", 300) :]  # without its Xing header, as in a live stream
    audio = load_audio(clip("mp3", 2.1, 24_000) + bare)
    assert audio.duration_s == pytest.approx(2.1 + 1.3, abs=0.08)  # the encoder's delay
    assert any("from 24000 to 48000 Hz" in note for note in audio.notes)


def test_an_aac_stream_may_change_its_rate() -> None:
    first, second = (encode_media(sound(1.3, n), n, "adts", "aac") for n in (24_000, 48_000))
    audio = load_audio(first + second)
    apart_s = load_audio(first).duration_s + load_audio(second).duration_s
    assert audio.duration_s == pytest.approx(apart_s, abs=0.07)
    assert any("from 24000 to 48000 Hz" in note for note in audio.notes)


# -- before and behind ----------------------------------------------------------------------------

TAG = b"ID3\x04\0\0\0\0\x04\0" + b"\xff\xfb\x90\x64" * 128


@pytest.mark.parametrize("before", [TAG * 3, bytes(3_000), bytes(7), b"junk" * 500], ids=len)
@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3", "m4a", "webm"])
def test_what_stands_before_the_sound_is_passed_over(container: str, before: bytes) -> None:
    audio = load_audio(before + plain(container))
    assert torch.equal(audio.samples, load_audio(plain(container)).samples)
    assert reasons(audio) == ([Reason.LEFT_OVER] if before[:4] == b"junk" else [])


def test_a_free_box_may_stand_first() -> None:
    """Offsets in the file count from its start, or, where the box was put before it, do not."""
    box, data = struct.pack(">I4s", 24, b"free") + bytes(16), plain("m4a")
    at = data.index(b"stco") + 8
    assert struct.unpack(">I", data[at : at + 4]) == (1,)
    (offset,) = struct.unpack(">I", data[at + 4 : at + 8])
    moved = data[: at + 4] + struct.pack(">I", offset + 24) + data[at + 8 :]
    for file in (box + data, box + moved):
        assert torch.equal(load_audio(file).samples, load_audio(data).samples)


@pytest.mark.parametrize("container", ["mp3", "ogg", "m4a", "webm"])
def test_bytes_that_are_left_over_are_noted_and_many_are_refused(container: str) -> None:
    data = plain(container, 2.1)
    junk = np.random.default_rng(0).integers(1, 127, len(data), np.uint8).tobytes()
    few = load_audio(data + junk[: len(data) // 20])
    assert reasons(few) == [Reason.LEFT_OVER]
    with pytest.raises(AudioError, match=r"no sound that can be read.*--allow-truncated") as error:
        load_audio(data + junk)
    assert error.value.reason is Reason.DAMAGED
    assert missing_s(load_audio(data + junk, allow_truncated=True)) > 1


# -- tracks and time ------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["m4a", "mkv"])
def test_several_tracks_are_named_and_any_can_be_taken(container: str) -> None:
    data = muxed(container, 1.3, 48_000, tracks=2)  # the first is silent
    first, second = load_audio(data), load_audio(data, track=2)
    assert first.samples.abs().max() < 0.01
    assert second.samples.abs().max() > 0.1
    assert "2 audio tracks: 1 (aac, 1 channel), 2 (aac, 1 channel)" in first.notes[0]
    assert "--track 2" in first.notes[0]
    for source in (data, plain(container), plain("wav"), plain("mp3")):
        with pytest.raises(AudioError, match="there is no track 3") as error:
            load_audio(source, track=3)
        assert error.value.reason is Reason.TRACK


@pytest.mark.parametrize("container", ["m4a", "mkv", "webm"])
def test_container_time_is_the_time(container: str) -> None:
    audio = load_audio(muxed(container, 2.1, 48_000, late_s=3.0, gaps=((1.0, 2.0),)))
    assert loud_from(audio) == pytest.approx(3.0, abs=0.05)
    assert audio.duration_s == pytest.approx(7.1, abs=0.06)
    silent = audio.samples[round(4.2 * RATE) : round(5.8 * RATE)]
    assert not silent.any()
    assert reasons(audio) == [Reason.TIME, Reason.TIME]
    assert missing_s(audio) == 0


def test_a_packet_that_cannot_be_decoded_is_silence_and_a_note() -> None:
    data = bytearray(plain("m4a", 2.1, 48_000))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [(p.pos, bytes(p)) for p in container.demux(audio=0) if p.size]
    for place, packet in packets[40:44]:
        at = data.index(packet, place)
        data[at : at + len(packet)] = b"\xff" * len(packet)
    audio = load_audio(bytes(data), allow_truncated=True)
    whole = load_audio(plain("m4a", 2.1, 48_000))
    assert len(audio.samples) == len(whole.samples)
    tail = slice(-RATE // 2, -2_000)
    likeness = torch.cosine_similarity(audio.samples[tail], whole.samples[tail], dim=0)
    assert likeness > 0.5  # AAC fills noise in by chance, but at its time
    assert reasons(audio) == [Reason.DAMAGED]


# -- messages -------------------------------------------------------------------------------------


def test_codecs_that_cannot_be_read_say_convert_it() -> None:
    data = plain("mkv").replace(b"A_AAC", b"A_XYZ")
    with pytest.raises(AudioError, match=r"Convert it with: ffmpeg -i FILE") as error:
        load_audio(data)
    assert error.value.reason is Reason.CODEC
    assert str(error.value).count("<bytes>") == 1


def test_open_files_are_called_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    with (tmp_path / "a.wav").open("rb") as file, pytest.raises(AudioError) as error:
        load_audio(file)
    assert str(error.value).startswith(f"{tmp_path / 'a.wav'}: 0 bytes")
    assert os.fspath(tmp_path) in str(error.value)
