"""Writing a transcript for people and programs: text, json, verbose_json, srt, vtt.

Pure functions of one `Transcript`. `FORMATS` names them as the command line and the server do.
"""

import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from .results import Segment, Transcript
from .speakers import utterances
from .subtitles import Cue, clean, cues, word_cues


def to_text(transcript: Transcript) -> str:
    """Return the text on one line."""
    return clean(transcript.text)


def to_json(transcript: Transcript) -> str:
    """Return everything that is known, as one JSON object on one line."""
    return json.dumps(transcript.to_dict(), ensure_ascii=False)


def to_verbose_json(transcript: Transcript) -> str:
    """Return `verbose` as one JSON object on one line."""
    return json.dumps(verbose(transcript), ensure_ascii=False)


def verbose(transcript: Transcript, language: str = "unknown") -> dict[str, Any]:
    """Return OpenAI's `verbose_json`, with `words` only where words have times.

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
    """Return what decoding noted, and the seconds that are missing, where there is a note."""
    if not transcript.notes:
        return {}
    return {"notes": list(transcript.notes), "missing_s": round(transcript.missing_s, 3)}


def _verbose_segment(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment in OpenAI's form. Decoding is greedy, so the temperature is 0. What is not
    kept (tokens, the probability of no speech) is empty or 0, as typed clients refuse null; only
    segments with words are listed.
    """
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


def to_srt(transcript: Transcript, parted: Callable[[Transcript], list[Cue]] = cues) -> str:
    """Return SubRip subtitles, `parted` into lines or words."""
    return "".join(
        f"{number}\n{clock(cue.start_ms, ',')} --> {clock(cue.end_ms, ',')}\n"
        + "".join(f"{line.replace('-->', '→')}\n" for line in cue.lines)
        + "\n"
        for number, cue in enumerate(parted(transcript), 1)
    )


def to_vtt(transcript: Transcript, parted: Callable[[Transcript], list[Cue]] = cues) -> str:
    """Return WebVTT subtitles (W3C); `&`, `<` and `>` are escaped, which hides `-->` too."""
    return "WEBVTT\n\n" + "".join(
        f"{clock(cue.start_ms, '.')} --> {clock(cue.end_ms, '.')}\n"
        + "".join(f"{escape(line)}\n" for line in cue.lines)
        + "\n"
        for cue in parted(transcript)
    )


def to_dialogue(transcript: Transcript) -> str:
    """Return a line for every utterance, behind its speaker: `A: How are you?`."""
    return "\n".join(f"{one.speaker}: {clean(one.text)}" for one in utterances(transcript))


def to_diarized_json(transcript: Transcript) -> str:
    """Return `diarized` as one JSON object on one line."""
    return json.dumps(diarized(transcript), ensure_ascii=False)


def diarized(transcript: Transcript) -> dict[str, Any]:
    """Return OpenAI's `diarized_json`: an utterance is a segment."""
    return {
        "task": "transcribe",
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [
            {
                "type": "transcript.text.segment",
                "id": f"seg_{number}",
                "start": round(one.start_s, 3),
                "end": round(one.end_s, 3),
                "text": one.text,
                "speaker": one.speaker,
            }
            for number, one in enumerate(utterances(transcript), 1)
        ],
        **notes_of(transcript),
    }


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": to_text,
    "json": to_json,
    "verbose_json": to_verbose_json,
    "srt": to_srt,
    "vtt": to_vtt,
}
# The same formats where words have times: a subtitle holds one word, and lasts as long as it.
BY_WORD = FORMATS | {
    "srt": partial(to_srt, parted=word_cues),
    "vtt": partial(to_vtt, parted=word_cues),
}
# What shows who spoke.
WITH_SPEAKERS: dict[str, Callable[[Transcript], str]] = {
    "text": to_dialogue,
    "json": to_json,
    "diarized_json": to_diarized_json,
}


def escape(text: str) -> str:
    """Escape what a WebVTT cue may not hold as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(ms: int, point: str) -> str:
    """Return a time as `01:02:03,004`."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
