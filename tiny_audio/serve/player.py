"""What the page shows: a transcript to listen to and to read, a trace, an error. Pure functions.

Everything that a file, a model or a person wrote is escaped here, and nowhere else is markup made.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from tiny_audio.infer.formats import FORMATS
from tiny_audio.infer.results import Segment, Transcript, Word

PARAGRAPH_S = 30.0
UNSURE = 0.5  # words that the decoder believes less than this are marked
OUTCOMES = {
    "ok": "complete",
    "no_speech": "no speech",
    "cut_off": "cut off: the decoder did not come to an end",
    "loop": "cut: the decoder began to repeat itself",
}
DOWNLOADS = {
    "txt": ("text", "text/plain"),
    "srt": ("srt", "application/x-subrip"),
    "vtt": ("vtt", "text/vtt"),
    "json": ("verbose_json", "application/json"),
}
# Without it a link within the framed page would open the page around it.
FRAME_BASE = '<base href="about:srcdoc">'


def player(transcript: Transcript, clip: Path) -> str:
    """A transcript with its sound; words (or segments, where words have no times) know theirs."""
    return (
        f'<section class="ta-result">{_facts(transcript)}'
        f'<audio class="ta-sound" controls preload="metadata" src="{file_url(clip)}"></audio>'
        f'<div class="ta-said">{_said(transcript)}</div>{_notes(transcript.notes)}'
        f"{_downloads(transcript, clip.stem)}</section>"
    )


def framed(page: str, name: str) -> str:
    """A page of its own in a frame that can do nothing but run its own scripts."""
    inside = page.replace("<head>", f"<head>{FRAME_BASE}", 1)
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    link = f'<a class="ta-save" href="#" download="{escape(name)}">Download this page</a>'
    about = f'<p class="ta-downloads">{link} <span class="ta-soft">{size}, works offline</span></p>'
    frame = (
        f'<iframe title="The clip on its way" sandbox="allow-scripts" srcdoc="{escape(inside)}">'
    )
    return f'<section class="ta-trace">{about}{frame}</iframe></section>'


def failure(message: str) -> str:
    """What went wrong and what to do about it."""
    return f'<p class="ta-failure" role="alert">{escape(message)}</p>'


def hint(message: str) -> str:
    """What will be seen here."""
    return f'<p class="ta-hint">{escape(message)}</p>'


def note(message: str) -> str:
    """A remark."""
    return f'<p class="ta-note">{escape(message)}</p>'


def file_url(clip: Path) -> str:
    """Where the page's server has an uploaded file."""
    return f"gradio_api/file={quote(str(clip))}"


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def _facts(transcript: Transcript) -> str:
    kind = transcript.outcome if transcript.complete else "partial"
    facts = [f'<b class="ta-pill ta-{kind}">{OUTCOMES[transcript.outcome]}</b>']
    if (sure := confidence(transcript.words)) is not None:
        about = "Geometric mean of the words' probabilities; not calibrated"
        facts.append(f'<span title="{about}">confidence <b>{sure:.0%}</b></span>')
    facts.append(f"<span><b>{_length(transcript.duration_s)}</b> of sound</span>")
    facts.append(f"<span><b>{_length(transcript.timings.total_s)}</b> of work</span>")
    return f'<p class="ta-facts">{"".join(facts)}</p>'


def confidence(words: Sequence[Word]) -> float | None:
    """Geometric mean over all words, 0…1; None where nothing was said."""
    known = [word.confidence for word in words if word.confidence]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else None


def _said(transcript: Transcript) -> str:
    """Paragraphs, with the time at which each begins if there are several."""
    found = list(_paragraphs(transcript.segments))
    if not found:
        return '<p class="ta-nothing">Nobody speaks in this clip.</p>'
    if len(found) == 1:
        return f"<p>{_text(found[0])}</p>"
    return "".join(
        f'<p><time data-start="{part[0].start_s:.3f}">{clock(part[0].start_s)}</time>'
        f"<span>{_text(part)}</span></p>"
        for part in found
    )


def _paragraphs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments with words, half a minute or a bit more at a time."""
    part: list[Segment] = []
    for segment in segments:
        if segment.text:
            part.append(segment)
            if segment.end_s - part[0].start_s >= PARAGRAPH_S:
                yield part
                part = []
    if part:
        yield part


def _text(segments: Sequence[Segment]) -> str:
    pieces: list[str] = []
    for segment in segments:
        if any(word.start_s is not None for word in segment.words):
            pieces += map(_word, segment.words)
        else:
            span = Word(segment.text, segment.start_s, segment.end_s, segment.confidence)
            pieces.append(_word(span))
    return " ".join(pieces)


def _word(word: Word) -> str:
    """A piece of text that a click plays, if it has times."""
    sure = word.confidence
    style = "ta-word ta-unsure" if sure is not None and sure < UNSURE else "ta-word"
    about = [] if sure is None else [f"{sure:.0%} sure"]
    times = ""
    if word.start_s is not None and word.end_s is not None:
        times = f' data-start="{word.start_s:.3f}" data-end="{word.end_s:.3f}"'
        about.insert(0, f"{word.start_s:.2f} s")
    return f'<span class="{style}"{times} title="{" · ".join(about)}">{escape(word.text)}</span>'


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="ta-notes">{items}</ul>' if notes else ""


def _downloads(transcript: Transcript, stem: str) -> str:
    """Links that hold their file, so that none lies on the server."""
    if not transcript.text:
        return ""
    links = " ".join(
        f'<a download="{escape(stem)}.{suffix}" '
        f'href="data:{kind};charset=utf-8,{quote(FORMATS[name](transcript))}">{suffix}</a>'
        for suffix, (name, kind) in DOWNLOADS.items()
    )
    return f'<p class="ta-downloads">Download {links}</p>'
