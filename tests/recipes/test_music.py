"""Music that we write: bytes of MIDI, labels that are what sounds, and questions about it."""

import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.music.__main__ import ASKED, MOST_DB, Clip, rows, toned
from recipes.music.compose import KEYS, MODES, TEMPI, album, piece, score
from recipes.music.midi import DRUMS, Note, midi_file, number
from tiny_audio.evaluate.tasks import TASKS, read


@given(st.integers(0, 2**27))
def test_a_number_of_variable_length_is_read_back(value):
    data = number(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data))) == value
    assert [byte >> 7 for byte in data] == [1] * (len(data) - 1) + [0]


def events(data: bytes) -> list[tuple[int, int, int]]:
    """(tick, status, first data byte) of a file's track, read by the format's rules."""
    kind, length = struct.unpack(">4sI", data[14:22])
    assert (kind, length) == (b"MTrk", len(data) - 22)
    found, at, tick = [], 22, 0
    while at < len(data):
        delta, at = variable(data, at)
        tick += delta
        status = data[at]
        if status == 0xFF:
            size, after = variable(data, at + 2)
            found.append((tick, status, data[at + 1]))
            at = after + size
        else:
            found.append((tick, status, data[at + 1]))
            at += 2 if status >> 4 == 0xC else 3
    return found


def variable(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    while True:
        value = value << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def test_a_file_holds_its_notes_at_their_times():
    notes = [Note(0.5, 0.25, 60), Note(0.75, 1.0, 64, channel=DRUMS), Note(0.75, 0.5, 60)]
    found = events(midi_file(notes, []))
    begins = [(tick, status & 15, pitch) for tick, status, pitch in found if status >> 4 == 9]
    assert begins == [(480, 0, 60), (720, 0, 60), (720, DRUMS, 64)]
    ends = [tick for tick, status, _ in found if status >> 4 == 8]
    assert ends == [720, 1200, 1680]
    assert found[-1][1:] == (0xFF, 0x2F)
    at_720 = [status >> 4 for tick, status, _ in found if tick == 720]
    assert at_720 == [8, 9, 9]  # a note ends before the same one begins again


@pytest.mark.parametrize("seed", range(12))
def test_what_sounds_is_what_the_labels_say(seed):
    asked, seconds = piece(seed), 6.0
    notes = score(asked, seconds)
    tonal = [note for note in notes if note.channel != DRUMS]
    scale = {(KEYS.index(asked.key) + step) % 12 for step in MODES[asked.mode]}
    assert {note.pitch % 12 for note in tonal} <= scale
    assert min(tonal, key=lambda n: (n.start, n.pitch)).pitch % 12 == KEYS.index(asked.key)
    assert any(note.channel == DRUMS for note in notes) == asked.drums
    beats = sorted({round(note.start, 6) for note in notes if note.channel == 1})
    assert 60 / (beats[1] - beats[0]) == pytest.approx(asked.bpm, rel=1e-4)
    low, high = TEMPI[asked.tempo]
    assert low <= asked.bpm <= high
    assert all(note.start + note.length <= seconds + 1e-9 for note in notes)
    assert album([asked, asked], seconds, 8.0).startswith(b"MThd")


def test_properties_are_drawn_one_by_one_and_every_answer_is_read_by_its_task():
    pieces = [piece(seed) for seed in range(400)]
    for name in ASKED:
        counts = Counter(one.labels()[name] for one in pieces)
        assert min(counts.values()) > 400 / len(counts) * 0.5, counts
        for label in counts:
            assert read(TASKS[name], label, {}) == label
    together = Counter((one.tempo, one.drums) for one in pieces)
    assert min(together.values()) > 40


def test_pairs_are_of_clearly_different_tempi_and_name_the_faster_one():
    made = [Clip(piece(seed), "", f"{seed}.flac") for seed in range(60)]
    bpm = {clip.name: clip.piece.bpm for clip in made}
    pairs = [row for row in rows(made, 0, 3) if row["task"] == "faster"]
    assert len(pairs) > 12
    for row in pairs:
        first, second = (bpm[name] for name in row["audio"])
        assert max(first, second) > 1.2 * min(first, second)
        assert row["text"] == ("first" if first > second else "second")
        assert row["prompt"].count("<audio>") == 2
    assert {row["text"] for row in pairs} == {"first", "second"}


def test_tone_controls_change_loudness_by_frequency_and_nothing_else():
    seconds = np.arange(16_000) / 16_000
    sound = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in (100, 1_000, 4_000)) / 3
    changed = toned(sound.astype(np.float32), seed=1)
    before, after = (np.abs(np.fft.rfft(x)) for x in (sound, changed))
    tones = before > 100
    assert after[~tones].max() < 1e-2 * before.max()
    gains_db = 20 * np.log10(after[tones] / before[tones])
    assert np.ptp(gains_db) > 0.5
    assert np.ptp(gains_db) <= 2 * MOST_DB
    assert np.abs(changed).max() == pytest.approx(np.abs(sound).max(), rel=1e-4)
    assert (toned(sound.astype(np.float32), seed=1) == changed).all()
    assert not np.allclose(toned(sound.astype(np.float32), seed=2), changed)
