"""POST /v1/audio/transcriptions: an upload to text, whole or segment by segment."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tiny_audio.infer.formats import FORMATS, diarized, notes_of, verbose
from tiny_audio.infer.request import Timestamps
from tiny_audio.infer.results import Segment, Timings, Transcript, withheld_note
from tiny_audio.infer.speakers import with_speakers
from tiny_audio.infer.transcriber import Request as Asked
from tiny_audio.model.errors import TinyAudioError, nearest

from .refusals import Refusal, answers, error_response, refuse_query
from .service import Service, first_of, unless_gone

router = APIRouter()
# "all" is ours: every format in one answer, and with it everything that is known ("json" of the
# command line: outcome, notes, confidence).
ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json", "all"]
WITHOUT_WORD_TIMES = ("json", "text", "diarized_json")
MOST_HEADER_CHARS = 2_000
LEAST_SPELLED, MOST_SPELLED = 4, 100  # letters of a word, words of a prompt
MOST_HOTWORDS = 200
FIELDS = [
    *"file model language prompt instruction hotwords response_format".split(),
    *"temperature stream track chunking_strategy speakers".split(),
    "timestamp_granularities[]",
]


@router.post(
    "/v1/audio/transcriptions",
    responses=answers("text/plain", "text/vtt", "text/event-stream"),
    dependencies=[Depends(refuse_query)],
)
async def transcribe(
    request: Request,
    file: Annotated[UploadFile, File(description="wav, flac, mp3, ogg, opus, m4a, webm")],
    model: Annotated[str | None, Form()] = None,
    language: Annotated[str | None, Form()] = None,
    prompt: Annotated[str | None, Form(description="Text with words that may be said.")] = None,
    instruction: Annotated[str | None, Form(description="Replaces the model's own.")] = None,
    hotwords: Annotated[str | None, Form(description="Likely words, with commas.")] = None,
    response_format: Annotated[ResponseFormat, Form()] = "json",
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]], Form(alias="timestamp_granularities[]")
    ] = [],  # noqa: B006 — FastAPI copies it
    temperature: Annotated[float, Form(ge=0, le=0, description="Decoding is greedy.")] = 0.0,
    stream: Annotated[bool, Form()] = False,
    track: Annotated[int | None, Form(ge=1, description="Audio track of a video.")] = None,
    chunking_strategy: Annotated[
        Literal["auto"] | None, Form(description="Audio is always cut in pauses.")
    ] = None,
    speakers: Annotated[
        int | None, Form(ge=1, description="Number of speakers, for diarized_json.")
    ] = None,
) -> Response:
    """Return the text of one file."""
    service: Service = request.app.state.service
    check_fields([name for name, _ in (await request.form()).multi_items()])
    service.check_model(model)
    for name, text in (("prompt", prompt), ("instruction", instruction), ("hotwords", hotwords)):
        service.check_text(text, name)
    check_language(language, service.language)
    words, diarize = "word" in timestamp_granularities, response_format == "diarized_json"
    if words and response_format in WITHOUT_WORD_TIMES:
        message = f"response_format={response_format} shows no times of words"
        raise Refusal(400, f"{message}. Use verbose_json.", param="timestamp_granularities[]")
    if stream and response_format not in ("json", "text", "all"):
        message = f"stream=true sends text; it cannot send {response_format}"
        raise Refusal(400, f"{message}. Leave one of them out.", param="stream")
    if speakers is not None and not diarize:
        message = f"response_format={response_format} does not show who spoke"
        raise Refusal(400, f"{message}. Use diarized_json.", param="speakers")
    if diarize and await service.unvoiced():
        message = "This service cannot say who spoke. Use verbose_json"
        raise Refusal(400, f"{message}.", param="response_format")
    if words and await service.untimed():
        message = "This model does not know the times of words. Ask for segments"
        raise Refusal(400, f"{message}.", param="timestamp_granularities[]")
    if len(words_given := listed(hotwords)) > MOST_HOTWORDS:
        message = f"{len(words_given):,} hotwords; the limit is {MOST_HOTWORDS}"
        raise Refusal(400, f"{message}. Send those that matter.", param="hotwords")
    favoured = (*words_given, *spelled(prompt))
    timed: Timestamps = "word" if words or diarize else "segment"
    asked = Asked(instruction, favoured, timed, diarize=diarize, speakers=speakers)
    if stream:
        return await streamed(request, service, file, asked, response_format == "all", track)
    work = transcript(service, file, asked, track)
    found = await unless_gone(request, work, service.limits.request_timeout_s)
    return formatted(found, response_format, service.language)


def check_fields(given: list[str]) -> None:
    """Refuse fields that would be ignored: unknown ones, and all but one of those that repeat."""
    for name in given:
        if name not in FIELDS:
            guess = nearest(name[:100], FIELDS)
            hint = f"Did you mean {guess!r}?" if guess else f"Known: {', '.join(FIELDS)}."
            raise Refusal(400, f"There is no field {name[:100]!r}. {hint}", param=name[:100])
        if given.count(name) > 1 and not name.endswith("[]"):
            raise Refusal(
                400, f"{name} is given {given.count(name)} times. Send it once.", param=name
            )


def check_language(asked: str | None, spoken: str) -> None:
    """Refuse a language that the model was not trained on, in any region; "auto" lets it choose."""
    if asked and asked.lower() != "auto" and primary(asked) != primary(spoken):
        message = f"This model writes {spoken!r}, not {asked[:20]!r}. Leave language out"
        raise Refusal(400, f"{message}.", param="language")


def primary(code: str) -> str:
    """Return `en` of `EN`, `en-US` and `en_GB`."""
    return re.split("[-_]", code.strip().lower())[0]


def spelled(prompt: str | None) -> tuple[str, ...]:
    """Return the words for whose spelling a prompt may be given: its last distinct ones, as
    OpenAI's models see a prompt's end only. Short words need no help.
    """
    words = re.findall(r"\w[\w'’.&+-]*\w", prompt or "")
    long = dict.fromkeys(word for word in reversed(words) if len(word) >= LEAST_SPELLED)
    return tuple(long)[:MOST_SPELLED]


def listed(hotwords: str | None) -> tuple[str, ...]:
    """Return `Ada, Grace Hopper` as words."""
    return tuple(word.strip() for word in (hotwords or "").split(",") if word.strip())


async def transcript(
    service: Service, file: UploadFile, asked: Asked, track: int | None = None
) -> Transcript:
    """Transcribe the whole upload."""
    async with aclosing(written(service, file.file, asked, track)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Transcript):
                return piece
    raise AssertionError("every file ends in its transcript")


async def written(
    service: Service, upload: BinaryIO, asked: Asked, track: int | None = None
) -> AsyncGenerator[Segment | Transcript, None]:
    """Yield the segments of an upload as they come, then the whole transcript."""
    started = time.monotonic()
    audio = await service.decode(upload, track)
    decoded, found = time.monotonic(), list[Segment]()
    with service.holding(audio):
        async with aclosing(service.segments(audio, asked)) as segments:
            async for segment in segments:
                found.append(segment)
                yield segment
        voices = await service.voices(audio, found) if asked.diarize else []
    timings = Timings(decoded - started, 0.0, time.monotonic() - decoded)
    notes = (*audio.notes, *withheld_note(found))
    whole = Transcript("upload", audio.duration_s, tuple(found), notes, timings)
    yield with_speakers(whole, voices, asked.speakers)


def formatted(transcript: Transcript, wanted: ResponseFormat, language: str) -> Response:
    """Return the body that OpenAI's clients expect for `response_format`."""
    if wanted == "json":
        return JSONResponse({"text": transcript.text, **notes_of(transcript)})
    if wanted == "verbose_json":
        return JSONResponse(verbose(transcript, language))
    if wanted == "diarized_json":
        return JSONResponse(diarized(transcript))
    if wanted == "all":
        return JSONResponse(every_format(transcript, language))
    body = FORMATS[wanted](transcript)
    kind = "text/vtt" if wanted == "vtt" else "text/plain"
    return PlainTextResponse(body, media_type=kind, headers=note_headers(transcript))


def note_headers(transcript: Transcript) -> dict[str, str]:
    """Return what decoding noted, where the body has no room for it; headers are ASCII."""
    notes = "; ".join(transcript.notes).encode("ascii", "backslashreplace").decode()
    notes = "".join(c for c in notes if c.isprintable())[:MOST_HEADER_CHARS]
    return {"x-tiny-audio-notes": notes} if notes else {}


def every_format(transcript: Transcript, language: str) -> dict[str, Any]:
    """Return texts of a transcript by the name of their format; json ones as objects."""
    objects = {"json": transcript.to_dict(), "verbose_json": verbose(transcript, language)}
    return {name: objects.get(name) or make(transcript) for name, make in FORMATS.items()}


async def streamed(
    request: Request,
    service: Service,
    file: UploadFile,
    asked: Asked,
    formats: bool,
    track: int | None,
) -> Response:
    """Answer with server-sent events, one delta per segment. What is refused, is refused with a
    status: the answer begins when the first segment is there.
    """
    events = _events(service, file.file, asked, formats, track)
    first = await unless_gone(request, first_of(events, ""), service.limits.request_timeout_s)
    rest = _rest(events, service.limits.request_timeout_s)
    return StreamingResponse(_chained(first, rest), media_type="text/event-stream")


async def _events(
    service: Service, upload: BinaryIO, asked: Asked, formats: bool, track: int | None
) -> AsyncIterator[str]:
    """Yield deltas; with `formats` also where they end, and every format in the last event."""
    text = ""
    async with aclosing(written(service, upload, asked, track)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Transcript):
                every = {"formats": every_format(piece, service.language)} if formats else {}
                done = {"type": "transcript.text.done", "text": text, **every}
                yield event({**done, **notes_of(piece)})
                return
            delta = _delta(piece, text)
            text += delta
            if delta or formats:
                place = {"end": round(piece.end_s, 3)} if formats else {}
                yield event({"type": "transcript.text.delta", "delta": delta, **place})


def _delta(segment: Segment, before: str) -> str:
    return f" {segment.text}" if before and segment.text else segment.text


async def _chained(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for each in rest:
        yield each


async def _rest(events: AsyncIterator[str], timeout_s: float) -> AsyncIterator[str]:
    """Yield the remaining segments; after the status is sent, an error can only be an event."""
    try:
        async with asyncio.timeout(timeout_s):
            async for each in events:
                yield each
    except TimeoutError:
        yield error_event(504, f"Not finished within {timeout_s:g} s. Send a shorter file.")
    except TinyAudioError as error:
        yield error_event(500, str(error))


def error_event(status: int, message: str) -> str:
    """Return the error that OpenAI's clients raise in the middle of a stream."""
    return f"data: {bytes(error_response(status, message).body).decode()}\n\n"


def event(data: dict[str, Any]) -> str:
    """Return one server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
