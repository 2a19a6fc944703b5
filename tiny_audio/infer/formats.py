"""A transcript as people and programs read it: text, json, verbose_json, srt, vtt.

Pure functions of one `Transcript`. `FORMATS` names them as the command line and the server do.
"""

import json
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .results import Segment, Transcript, Word

# Subtitles that can be read in time: two lines of 42 characters, seven seconds at most (the usual
# broadcasters' rule); a pause of speech begins a new one.
LINE_CHARS = 42
CUE_CHARS = 2 * LINE_CHARS
CUE_S = 7.0
PAUSE_S = 0.7


@dataclass(frozen=True)
class Cue:
    """One subtitle: whole milliseconds, and its text in lines."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def to_text(transcript: Transcript) -> str:
    """The text on one line."""
    return clean(transcript.text)


def to_json(transcript: Transcript) -> str:
    """Everything that is known, as one JSON object on one line."""
    return json.dumps(transcript.to_dict(), ensure_ascii=False)


def to_verbose_json(transcript: Transcript) -> str:
    """`verbose` as one JSON object on one line."""
    return json.dumps(verbose(transcript), ensure_ascii=False)


def verbose(transcript: Transcript, language: str = "unknown") -> dict[str, Any]:
    """OpenAI's `verbose_json`; `words` only where words have times.

    The models write what they hear in any language and do not say which, so `language` is what the
    caller knows. A segment without speech is left out, as OpenAI's does.
    """
    spoken = [segment for segment in transcript.segments if segment.text]
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_verbose_segment(number, segment) for number, segment in enumerate(spoken)],
    }
    found |= notes_of(transcript)
    timed = [word for word in transcript.words if word.start_s is not None]
    if timed:
        found["words"] = [
            {"word": word.text, "start": word.start_s, "end": word.end_s} for word in timed
        ]
    return found


def notes_of(transcript: Transcript) -> dict[str, Any]:
    """What decoding noted, and the seconds that are missing; nothing where there is no note."""
    if not transcript.notes:
        return {}
    return {"notes": list(transcript.notes), "missing_s": round(transcript.missing_s, 3)}


def _verbose_segment(number: int, segment: Segment) -> dict[str, Any]:
    """Decoding is greedy, so the temperature is 0. What is not kept (tokens, the probability of no
    speech) is empty or 0, as typed clients refuse null; only segments with words are listed."""
    spoken = segment.text.encode()
    return {
        "id": number,
        "seek": round(segment.start_s * 100),  # Whisper's unit: frames of 10 ms
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.mean_logprob,
        "compression_ratio": len(spoken) / len(zlib.compress(spoken)),
        "no_speech_prob": 0.0,
    }


def to_srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n"
        + "".join(f"{line.replace('-->', '→')}\n" for line in cue.lines)
        + "\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT subtitles (W3C): `&`, `<` and `>` are escaped, which hides `-->` too."""
    return "WEBVTT\n\n" + "".join(
        f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n"
        + "".join(f"{escape(line)}\n" for line in cue.lines)
        + "\n"
        for cue in cues(transcript)
    )


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": to_text,
    "json": to_json,
    "verbose_json": to_verbose_json,
    "srt": to_srt,
    "vtt": to_vtt,
}


def cues(transcript: Transcript) -> list[Cue]:
    """Subtitles in order: none is empty, each ends after its start and before the next begins."""
    found: list[Cue] = []
    for start_s, end_s, text in _pieces(transcript):
        lines = tuple(textwrap.wrap(clean(text), LINE_CHARS))
        if lines:
            start = max(milliseconds(start_s), found[-1].end_ms if found else 0)
            found.append(Cue(start, max(milliseconds(end_s), start + 1), lines))
    return found


def _pieces(transcript: Transcript) -> Iterator[tuple[float, float, str]]:
    """(start, end, text) of every subtitle: a segment, or groups of its words if they are timed."""
    for segment in transcript.segments:
        if any(word.start_s is not None for word in segment.words):
            for group in _groups(segment.words):
                known = [w.start_s for w in group if w.start_s is not None]
                ended = [w.end_s for w in group if w.end_s is not None]
                span = (min(known, default=segment.start_s), max(ended, default=segment.end_s))
                yield (*span, " ".join(word.text for word in group))
        else:
            yield segment.start_s, segment.end_s, segment.text


def _groups(words: tuple[Word, ...]) -> Iterator[list[Word]]:
    """Words of one subtitle each, parted only where both sides have times."""
    group: list[Word] = []
    for word in words:
        if group and _parts(group, word):
            yield group
            group = []
        group.append(word)
    yield group


def _parts(group: list[Word], word: Word) -> bool:
    """Whether `word` begins a new subtitle after the words of `group`."""
    first, last = group[0].start_s, group[-1].end_s
    if first is None or last is None or word.start_s is None or word.end_s is None:
        return False
    num_chars = sum(len(each.text) + 1 for each in group) + len(word.text)
    too_long = num_chars > CUE_CHARS or word.end_s - first > CUE_S
    return too_long or word.start_s - last > PAUSE_S


def clean(text: str) -> str:
    """One line: white space becomes single spaces, control characters go."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def escape(text: str) -> str:
    """What a WebVTT cue may not hold as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def milliseconds(seconds: float) -> int:
    """Rounded half up, so that equal times stay equal and later ones are never earlier."""
    return int(seconds * 1000 + 0.5)


def clock(ms: int, point: str) -> str:
    """`01:02:03,004`."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
