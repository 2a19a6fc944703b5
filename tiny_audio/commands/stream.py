"""`tiny-audio stream`: live sound from a pipe to text, line by line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, say
from tiny_audio.commands.options import Device, Dtype, Hotwords, Model, ready, words_of


def stream(
    model: Model = DEFAULT_MODEL,
    rate: Annotated[
        int, typer.Option(help="Sampling rate of raw sound in Hz; a WAV file states its own.")
    ] = 16_000,
    hotwords: Hotwords = "",
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Transcribe live sound from stdin: arecord -f S16_LE -r 16000 | tiny-audio stream.

    Stdin may be WAV, raw samples of 16 bits (mono), or a file (mp3, ogg, flac, webm …), which is
    decoded while it arrives. Every pause ends a line; a terminal also shows the unfinished line.
    Ctrl-C ends the sound, and the last line is still written.
    """
    from tiny_audio.infer.pipes import read_sound
    from tiny_audio.infer.request import Request
    from tiny_audio.infer.results import Segment, ending_notes
    from tiny_audio.infer.streaming import Streamer, events_of

    with refusing(RuntimeError):
        request = Request(hotwords=words_of(hotwords))
        transcriber = ready(model, request, None, device, dtype)
        notes: list[str] = []
        rate, blocks = read_sound(sys.stdin.buffer, rate, notes)
        live, finals = sys.stderr.isatty(), list[Segment]()
        streamer = Streamer(transcriber, rate, request)
        for event in events_of(streamer, until_ctrl_c(blocks)):
            if live:
                line = "" if event.final else event.segment.text[-100:]
                print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            if event.final:
                finals.append(event.segment)
                if event.segment.text:
                    print(event.segment.text, flush=True)
        if not any(segment.text for segment in finals):
            print("[no speech]", flush=True)
        for note in [*notes, *ending_notes(finals)]:
            say(f"stdin: {note}", "yellow")


def until_ctrl_c(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield blocks up to the first Ctrl-C; what has arrived by then is still transcribed. A second
    Ctrl-C ends the command at once.
    """
    interrupted = False

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for block in blocks:
            yield block
            if interrupted:
                return
    finally:
        signal.signal(signal.SIGINT, before)
