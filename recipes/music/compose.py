"""Pieces by chance, with everything that is asked about them known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from recipes.music.midi import DRUMS, Note, Program, midi_file

KEYS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 11)}
TEMPI = {"slow": (56, 72), "medium": (96, 112), "fast": (150, 176)}
FAMILIES = {  # programs of General MIDI, from 0
    "piano": (0, 1),
    "organ": (16, 19),
    "guitar": (24, 25),
    "strings": (48, 49),
    "brass": (56, 61),
    "flute": (73, 75),
}
FORMS = ("AABA", "ABAB", "AAAA")
# Degrees of chords, from 0: every progression begins and ends at home.
PROGRESSIONS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3))
KICK, SNARE, HAT = 36, 38, 42


@dataclass(frozen=True)
class Piece:
    """What a piece is; `notes` follow from it and from the seed."""

    seed: int
    key: str
    mode: str
    tempo: str
    bpm: float
    metre: int
    instrument: str
    program: int
    drums: bool
    form: str

    def labels(self) -> dict[str, str]:
        """The right answers, by the name of the task's column."""
        return {
            "instrument": self.instrument,
            "drums": "drums" if self.drums else "no drums",
            "tempo": self.tempo,
            "key": self.key,
            "mode": self.mode,
            "metre": {3: "three", 4: "four"}[self.metre],
            "structure": self.form,
        }


def piece(seed: int) -> Piece:
    """A piece; every property is drawn by itself, so none tells another."""
    draw = random.Random(f"piece/{seed}")
    tempo, family = draw.choice(list(TEMPI)), draw.choice(list(FAMILIES))
    return Piece(
        seed,
        draw.choice(KEYS),
        draw.choice(list(MODES)),
        tempo,
        round(draw.uniform(*TEMPI[tempo]), 1),
        draw.choice((3, 4)),
        family,
        draw.choice(FAMILIES[family]),
        draw.random() < 0.5,
        draw.choice(FORMS),
    )


def score(asked: Piece, seconds: float) -> list[Note]:
    """The notes of a piece, in seconds; what would sound longer than that is cut."""
    bars, beat_s = int(seconds * asked.bpm / 60 / asked.metre) + 1, 60 / asked.bpm
    parts = {name: _part(asked, name) for name in sorted(set(asked.form))}
    notes = list[Note]()
    for bar in range(bars):
        chords, melody = parts[asked.form[bar // 2 % len(asked.form)]]
        notes += _bar(asked, bar, chords[bar % len(chords)], melody[bar % len(melody)])
    timed = (n._replace(start=n.start * beat_s, length=n.length * beat_s) for n in notes)
    return [n._replace(length=min(n.length, seconds - n.start)) for n in timed if n.start < seconds]


def album(pieces: Sequence[Piece], seconds: float, apart: float) -> bytes:
    """One MIDI file of many pieces: each begins `apart` after the one before."""
    notes, programs = list[Note](), list[Program]()
    for place, asked in enumerate(pieces):
        start = place * apart
        programs += [Program(start, channel, asked.program) for channel in (0, 1)]
        notes += [n._replace(start=n.start + start) for n in score(asked, seconds)]
    return midi_file(notes, programs)


def _part(asked: Piece, name: str) -> tuple[tuple[int, ...], list[list[int]]]:
    """Chords, and for every bar the degrees of a melody: two a beat at most."""
    draw = random.Random(f"part/{asked.seed}/{name}")
    chords = draw.choice(PROGRESSIONS)
    melody = []
    for chord in chords:
        steps = [chord + draw.choice((0, 2, 4)), *(draw.randrange(8) for _ in range(7))]
        melody.append(steps)
    return chords, melody


def _bar(asked: Piece, bar: int, chord: int, melody: list[int]) -> list[Note]:
    """Bass and chord on every beat, two notes of the melody a beat, and drums if there are any."""
    notes, first = list[Note](), bar * asked.metre
    for beat in range(asked.metre):
        at, loud = first + beat, 96 if beat == 0 else 72
        notes.append(Note(at, 0.9, pitch(asked, chord, 36), loud, 1))
        notes += [Note(at, 0.8, pitch(asked, chord + up, 48), loud - 16) for up in (0, 2, 4)]
        for half in (0, 1):
            degree = melody[(2 * beat + half) % len(melody)]
            notes.append(Note(at + half / 2, 0.45, pitch(asked, degree, 60), loud))
        if asked.drums:
            notes.append(Note(at, 0.2, KICK if beat % 2 == 0 else SNARE, 110, DRUMS))
            notes += [Note(at + half / 2, 0.1, HAT, 80, DRUMS) for half in (0, 1)]
    return notes


def pitch(asked: Piece, degree: int, low: int) -> int:
    """The MIDI number of a degree of the scale, with its tonic in the octave above `low`."""
    octave, step = divmod(degree, 7)
    return low + KEYS.index(asked.key) + MODES[asked.mode][step] + 12 * octave
