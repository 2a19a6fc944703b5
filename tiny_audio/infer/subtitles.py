"""Making subtitles that can be read in time, whatever word times are known: all, some, or none.

Two lines of 42 characters, a second at least and seven at most (the usual broadcasters' rule); a
pause of speech begins a new one. Words without a time take theirs from their neighbours, by their
characters; a text without spaces is parted between characters, behind punctuation if there is any.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .results import Segment, Transcript, Word

LINE_CHARS, NUM_LINES = 42, 2
PART_CHARS = LINE_CHARS // 2  # of what is longer than a line, two of which fill one
SHORTEST_S, LONGEST_S, PAUSE_S = 1.0, 7.0, 0.7


@dataclass(frozen=True)
class Cue:
    """One subtitle: whole milliseconds, and its text in lines."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A word, or a part of a long one, which follows the part before it without a space."""

    text: str
    start_s: float
    end_s: float
    is_part: bool = False


def cues(transcript: Transcript) -> list[Cue]:
    """Return subtitles in order, none of them empty; each ends before the next begins."""
    groups = [g for segment in transcript.segments for g in _groups(_pieces(segment))]
    found = list[Cue]()
    for group in groups:
        start = max(milliseconds(group[0].start_s), found[-1].end_ms if found else 0)
        end = min(max(milliseconds(group[-1].end_s), start + 1), start + milliseconds(LONGEST_S))
        found.append(Cue(start, end, tuple(_lines(group))))
    return _lengthened(found, milliseconds(transcript.duration_s))


def word_cues(transcript: Transcript) -> list[Cue]:
    """Return one subtitle for each word, as long as the word, but at least 1 ms."""
    found = list[Cue]()
    for segment in transcript.segments:
        for piece in _pieces(segment):
            start = max(milliseconds(piece.start_s), found[-1].end_ms if found else 0)
            end = max(milliseconds(piece.end_s), start + 1)
            found.append(Cue(start, end, (piece.text,)))
    return found


def _lengthened(found: Sequence[Cue], end_ms: int) -> list[Cue]:
    """Let short subtitles last longer, or begin earlier, where nothing else is shown."""
    made, shortest = list[Cue](), milliseconds(SHORTEST_S)
    for number, cue in enumerate(found):
        after = found[number + 1].start_ms if number + 1 < len(found) else max(end_ms, cue.end_ms)
        end = max(cue.end_ms, min(cue.start_ms + shortest, after))
        before = made[-1].end_ms if made else 0
        start = min(cue.start_ms, max(end - shortest, before))
        made.append(replace(cue, start_ms=start, end_ms=end))
    return made


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield the pieces of one subtitle each."""
    group: list[Piece] = []
    for piece in pieces:
        if group and _parts(group, piece):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _parts(group: list[Piece], piece: Piece) -> bool:
    """Tell whether `piece` begins a new subtitle after those of `group`."""
    too_long = piece.end_s - group[0].start_s > LONGEST_S
    paused = piece.start_s - group[-1].end_s > PAUSE_S
    return too_long or paused or len(_lines([*group, piece])) > NUM_LINES


def _lines(group: Sequence[Piece]) -> list[str]:
    """Fill lines from the first; no piece is longer than a line."""
    lines = [group[0].text]
    for piece in group[1:]:
        longer = f"{lines[-1]}{'' if piece.is_part else ' '}{piece.text}"
        if len(longer) > LINE_CHARS:
            lines.append(piece.text)
        else:
            lines[-1] = longer
    return lines


def _pieces(segment: Segment) -> list[Piece]:
    """Return all that a segment says, in order of time, and within it."""
    made, at = list[Piece](), segment.start_s
    for word, start_s, end_s in _timed(segment):
        start_s = min(max(start_s, at), segment.end_s)
        at = min(max(end_s, start_s), segment.end_s)
        made += _in_parts(word, start_s, at)
    return made


def _timed(segment: Segment) -> Iterator[tuple[str, float, float]]:
    """Yield words with their times; those without share the time between their neighbours'."""
    words = [replace(word, text=clean(word.text)) for word in _words(segment)]
    runs = [list(run) for _, run in groupby(filter(lambda w: w.text, words), _is_timed)]
    for number, run in enumerate(runs):
        if _is_timed(run[0]):
            yield from ((w.text, w.start_s or 0.0, w.end_s or 0.0) for w in run)
            continue
        before = runs[number - 1][-1].end_s if number else segment.start_s
        after = runs[number + 1][0].start_s if number + 1 < len(runs) else segment.end_s
        yield from _shared([w.text for w in run], before or 0.0, after or 0.0)


def _words(segment: Segment) -> Sequence[Word]:
    """Return the segment's words; of a segment that was made without them, those of its text."""
    return segment.words or [Word(word, None, None, None) for word in segment.text.split()]


def _is_timed(word: Word) -> bool:
    return word.start_s is not None and word.end_s is not None


def _shared(
    texts: Sequence[str], start_s: float, end_s: float
) -> Iterator[tuple[str, float, float]]:
    """Give texts their part of the time, by their characters."""
    each_s = max(0.0, end_s - start_s) / max(1, sum(map(len, texts)))
    for text in texts:
        yield text, start_s, (start_s := start_s + len(text) * each_s)


def _in_parts(word: str, start_s: float, end_s: float) -> Iterator[Piece]:
    """Yield a word that fits into a line as one piece; each part of a longer one has its share."""
    texts = [word] if len(word) <= LINE_CHARS else list(_cut(word))
    for number, (text, first_s, last_s) in enumerate(_shared(texts, start_s, end_s)):
        yield Piece(text, first_s, last_s, number > 0)


def _cut(word: str) -> Iterator[str]:
    """Yield parts of at most `PART_CHARS`, up to the last punctuation, and never before a mark."""
    while len(word) > PART_CHARS:
        places = [n for n in range(1, PART_CHARS + 1) if not _clings(word[n])]
        marked = [n for n in places if unicodedata.category(word[n - 1]).startswith("P")]
        end = max(marked or places, default=PART_CHARS)
        yield word[:end]
        word = word[end:]
    if word:
        yield word


def _clings(character: str) -> bool:
    """Tell whether a character belongs to the one before: accents, vowel signs, joiners."""
    return unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"


def clean(text: str) -> str:
    """Return one line: white space becomes single spaces, and control characters go."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def milliseconds(seconds: float) -> int:
    """Round half up, so that equal times stay equal and later ones are never earlier."""
    return int(seconds * 1000 + 0.5)
