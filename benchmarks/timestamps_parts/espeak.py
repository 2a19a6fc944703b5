"""Speech with the true times of its words: espeak-ng tells where in the sound each word begins.

The shared library of Debian's espeak-ng is called directly, because the program does not print its
events. A word begins where espeak-ng reports it (a stop's closure belongs to the word that it
begins), and ends where the next one begins or where a pause does. Words that are spoken as one ("in
the") have one event: where the first ends and the second begins is unknown, and not measured.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_char, c_int, c_short, c_size_t, c_uint, c_void_p
from typing import Any, NamedTuple

import numpy as np
import soxr

from recipes.nano.synth import Voice
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError

LIBRARY = "libespeak-ng.so.1"
RETRIEVAL, PHONEME_EVENTS, UTF8 = 1, 1, 1  # of speak_lib.h
RATE, PITCH = 1, 3
VOICE_FILES = {"en-gb": "gmw/en"}  # the program knows this language, the call only its file
END_OF_LIST, WORD, PHONEME = 0, 1, 7


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; `name` is its union, which holds a phoneme's name."""

    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("name", c_char * 8),
    )


CALLBACK = ctypes.CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(Event))


class Truth(NamedTuple):
    """One word; a time is None where espeak-ng does not tell it."""

    text: str
    start_s: float | None
    end_s: float | None


class Mark(NamedTuple):
    """A word that begins, or (`place` is None) a pause."""

    place: int | None
    time_s: float


@functools.cache
def library() -> tuple[Any, int]:
    """The library and its sampling rate."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise ConfigError(
            f"{LIBRARY} is not there ({error}). Install the Debian package espeak-ng."
        ) from error
    return library, int(library.espeak_Initialize(RETRIEVAL, 0, None, PHONEME_EVENTS))


def speak(text: str, voice: Voice) -> tuple[np.ndarray, list[Truth]]:
    """float32 samples at 16 kHz, and when each word was said."""
    espeak, rate_hz = library()
    blocks, marks = list[bytes](), list[Mark]()

    @CALLBACK
    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            blocks.append(ctypes.string_at(samples, 2 * count))
        marks.extend(marks_in(events, rate_hz))
        return 0

    espeak.espeak_SetSynthCallback(take)
    accent, *variant = voice.name.split("+")
    name = "+".join([VOICE_FILES.get(accent, accent), *variant])
    if espeak.espeak_SetVoiceByName(name.encode()):
        raise ConfigError(f"espeak-ng has no voice {voice.name!r}.")
    espeak.espeak_SetParameter(RATE, round(165 * voice.rate), 0)
    espeak.espeak_SetParameter(PITCH, round(50 + 30 * voice.pitch), 0)
    said = text.encode() + b"\0"
    espeak.espeak_Synth(said, c_size_t(len(said)), 0, 1, 0, UTF8, None, None)
    espeak.espeak_Synchronize()
    samples = np.frombuffer(b"".join(blocks), np.int16).astype(np.float32) / 32768
    resampled = soxr.resample(samples, rate_hz, SAMPLE_RATE)
    return 0.6 * resampled / np.abs(resampled).max(initial=1e-4), words(text, marks)


def marks_in(events: Any, rate_hz: int) -> list[Mark]:
    found, at = [], 0
    while events[at].type != END_OF_LIST:
        event = events[at]
        if event.type == WORD:
            found.append(Mark(event.text_position - 1, event.sample / rate_hz))
        elif event.type == PHONEME and event.name.startswith(b"_"):
            found.append(Mark(None, event.sample / rate_hz))
        at += 1
    return found


def words(text: str, marks: list[Mark]) -> list[Truth]:
    """Every word with what the marks tell of it."""
    begun = {mark.place: number for number, mark in enumerate(marks)}
    told, places = list[Truth](), places_of(text)
    for word, place, following in zip(text.split(), places, [*places[1:], None], strict=True):
        start_s = end_s = None
        if (number := begun.get(place)) is not None:
            start_s = marks[number].time_s
            after = marks[number + 1] if number + 1 < len(marks) else None
            # Any other word's mark: the following one was spoken as one with this.
            end_s = after.time_s if after and after.place in (None, following) else None
        told.append(Truth(word, start_s, end_s))
    return told


def places_of(text: str) -> list[int]:
    """Where each word stands in the text."""
    places, end = list[int](), 0
    for word in text.split():
        places.append(text.index(word, end))
        end = places[-1] + len(word)
    return places
