"""The names of a row's fields, here and in other programs, and what the fields mean.

A field that changes which sound or which text is meant is read, or the row is refused with its
name; it is never passed over. Names: NeMo (audio_filepath, offset, duration), Common Voice (path,
sentence, client_id), SpeechBrain (wav), DeepSpeech (wav_filename, transcript), the Hub's audio
folders (file_name, transcription), Lhotse and Whisper (supervisions, segments: refused).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

from tiny_audio.data.manifest import Unusable
from tiny_audio.model.errors import ConfigError

AUDIO, TEXT, SPEAKER = "audio", "text", "speaker"
NO_TEXT = ""  # asked for where rows need no text: they are to be transcribed
# Other names of a field, looked for where a source names no column of its own.
NAMES: dict[str, tuple[str, ...]] = {
    AUDIO: (
        *("audio_filepath", "audio_path", "audio_file", "path", "file", "file_name", "filename"),
        *("filepath", "file_path", "wav", "wav_path", "wav_filename"),
    ),
    TEXT: ("sentence", "transcript", "transcription", "normalized_text"),
    SPEAKER: ("speaker_id", "client_id", "spk_id"),
}
UNITS = {"": 1.0, "_s": 1.0, "_sec": 1.0, "_seconds": 1.0, "_ms": 0.001}


def _timed(*names: str) -> dict[str, float]:
    """Return names with every ending that tells a unit, and what one of it is in seconds."""
    return {name + ending: UNITS[ending] for name, ending in product(names, UNITS)}


START = _timed("start", "offset", "begin", "onset", "start_time", "begin_time")
END = _timed("end", "stop", "end_time")
DURATION = _timed("duration", "audio_duration")
CHANNEL = ("channel", "channel_selector")
NUMBER = re.compile(r"-?\d+([.]\d*)?")
# Several texts or sounds in one row; each of them needs a row of its own.
REFUSED = ("segments", "supervisions", "recording", "utterances", "chunks")
# Places that are counted in samples or frames of a rate that the row does not name.
COUNTED = tuple("frame_offset sample_offset start_frame end_frame start_sample end_sample".split())
TIMES = (*START, *END, *DURATION)
NO_STRETCH = "no stretch of seconds (start and end, or offset and duration)"
CONTRADICTED = "duration contradicts the sound"


def column(kind: str, asked: str, there: Iterable[str]) -> str:
    """Return the column that holds the audio, text or speaker: the one asked for, or, where that is
    the default and there is none, one of its other names. `Unusable` where several could be meant.
    """
    there = set(there)
    if asked != kind or asked in there:
        return asked
    found = [name for name in NAMES[kind] if name in there]
    if len(found) > 1 and kind != SPEAKER:
        raise Unusable(f"{kind} under several names ({', '.join(found)}): give {kind}=NAME")
    return found[0] if found else asked


def column_in(row: Mapping[str, Any], kind: str, asked: str) -> str:
    """Return the column in one row; null and empty fields count only if no other is there."""
    filled = [name for name, value in row.items() if value not in (None, "")]
    found = column(kind, asked, filled)
    return found if found in filled else column(kind, asked, row)


def check_columns(where: str, there: Iterable[str], audio: str, text: str) -> None:
    """Refuse a table that has no audio or no text, or several that could be meant."""
    there = list(there)
    for kind, asked in ((AUDIO, audio), (TEXT, text)):
        if asked == NO_TEXT:
            continue
        try:
            found = column(kind, asked, there)
        except Unusable as reason:
            raise ConfigError(f"{where} has {reason}.") from reason
        if found not in there:
            error = ConfigError.unknown(asked, there, where)
            also = f" {kind} is also read as: {', '.join(NAMES[kind])}." if asked == kind else ""
            raise ConfigError(f"{error}{also}")


def refuse_fields(row: Mapping[str, Any]) -> None:
    """Raise `Unusable` for a field that means several clips, or a part in another unit."""
    for name in REFUSED:
        if isinstance(row.get(name), list | dict):
            raise Unusable(f"{name} is not read: write one row a segment, with start and end")
    for name in COUNTED:
        if row.get(name) not in (None, ""):
            raise Unusable(f"{name} is not read: write start and end in seconds")


class Times(NamedTuple):
    """The place of a row in its sound and its length, in seconds, as far as the row says so."""

    start: float | None
    end: float | None
    duration: float | None

    @property
    def length(self) -> float | None:
        """Return the length that the row states."""
        if self.duration is not None or self.end is None:
            return self.duration
        return self.end - (self.start or 0.0)

    @property
    def stretch(self) -> tuple[float, float] | None:
        """Return start and end of a part of the sound; None for all of it."""
        whole = self.start is None or (self.start == 0.0 and self.duration is None)
        if self.end is None and whole:
            return None
        start, end = self.start or 0.0, self.end
        if end is None and self.duration is not None:
            end = start + self.duration
        if end is None or not 0 <= start < end:
            raise Unusable(NO_STRETCH)
        return start, end


def times_of(row: Mapping[str, Any]) -> Times:
    """Read a row's times; `Unusable` where one is no number, or where two contradict each other."""
    found = Times(*(_seconds(row, names) for names in (START, END, DURATION)))
    if None not in found:
        check_length(found.end - (found.start or 0.0), found.duration)  # type: ignore[operator]
    return found


def _seconds(row: Mapping[str, Any], names: Mapping[str, float]) -> float | None:
    values = {name: row[name] for name in names if row.get(name) not in (None, "")}
    found = {_number(value) * names[name] for name, value in values.items()}
    if len(found) > 1:
        raise Unusable(f"{' and '.join(values)} differ: one of them is read")
    return found.pop() if found else None


def _number(value: Any) -> float:
    """Return a finite number, also from a text: tables hold nothing else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Unusable(NO_STRETCH)
    return number


def check_length(seconds: float, stated: float | None) -> None:
    """Raise `Unusable` where a row states another length than its sound has. A tenth of a second
    and one in a hundred are allowed: by so much headers and coders differ.
    """
    if stated is not None and abs(seconds - stated) > 0.1 + 0.01 * seconds:
        raise Unusable(CONTRADICTED)


def channel_of(row: Mapping[str, Any]) -> int | None:
    """Return the channel that a row names by its number, also as 1.0, which tables with gaps make
    of it; None for the mean of all.
    """
    for name in CHANNEL:
        value = row.get(name)
        if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float | list) or value != value:
            continue
        if isinstance(value, list) or value < 0 or value % 1:
            raise Unusable(f"{name} is not one number")
        return int(value)
    return None
