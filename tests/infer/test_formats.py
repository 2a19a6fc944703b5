"""Formats: what is written can be read back, whatever was said and however times were rounded."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.infer.formats import BY_WORD, FORMATS, to_srt, to_vtt, verbose
from tiny_audio.infer.results import Segment, Transcript, Word
from tiny_audio.infer.subtitles import LINE_CHARS, NUM_LINES, cues, milliseconds
from tiny_audio.model.errors import Reason
from tiny_audio.model.source import Note

CLOCK = r"(\d\d+):(\d\d):(\d\d)[,.](\d\d\d)"
TIMES = re.compile(rf"^{CLOCK} --> {CLOCK}$")


def segment(start_s, end_s, text="", words=()):
    outcome = "ok" if text else "no_speech"
    return Segment(start_s, end_s, text, outcome, -0.1 if text else None, tuple(words))


def spoken(words, start_s=0.0, each_s=0.4):
    timed = [
        Word(w, start_s + n * each_s, start_s + (n + 1) * each_s, 0.9) for n, w in enumerate(words)
    ]
    return segment(start_s, start_s + len(timed) * each_s, " ".join(words), timed)


@st.composite
def transcripts(draw):
    """Segments back to back, of any text, with and without words and times."""
    at, segments = 0.0, []
    for length in draw(st.lists(st.floats(0.0005, 40), min_size=1, max_size=6)):
        some = (
            st.text(max_size=60)
            | st.text("漢字かな。、", max_size=300)
            | st.text("ab ", max_size=300)
        )
        text = " ".join(draw(some).split())
        step = length / max(1, len(text.split()))
        words = [
            Word(w, at + n * step, at + (n + 1) * step, 0.5)
            if draw(st.booleans())
            else Word(w, None, None, None)
            for n, w in enumerate(text.split())
        ]
        segments.append(segment(at, at + length, text, words))
        at += length
    return Transcript("x", at, tuple(segments))


def read(subtitles):
    """(start_ms, end_ms, text) of every subtitle, by the rules of the formats."""
    found = []
    for block in filter(None, subtitles.removeprefix("WEBVTT\n\n").split("\n\n")):
        lines = block.split("\n")
        lines = lines[1:] if lines[0].isdecimal() and TIMES.match(lines[1]) else lines
        h, m, s, ms, *end = map(int, TIMES.match(lines[0]).groups())
        ends = ((end[0] * 60 + end[1]) * 60 + end[2]) * 1000 + end[3]
        found.append((((h * 60 + m) * 60 + s) * 1000 + ms, ends, " ".join(lines[1:])))
    return found


def monotone(subtitles):
    """The subtitles, of which none is empty or begins before the last one has ended."""
    found = read(subtitles)
    edges = [at for start, end, _ in found for at in (start, end)]
    assert edges == sorted(edges)
    assert all(start < end for start, end, _ in found)
    assert all(text.strip() for *_, text in found)
    return found


@given(transcripts())
def test_subtitles_are_monotone_never_empty_and_hold_every_word(transcript):
    for write in (to_srt, to_vtt):
        monotone(write(transcript))
    said = "".join(c for c in transcript.text if c.isprintable()).split()
    unescaped = " ".join(text for *_, text in read(to_vtt(transcript)))
    for entity, mark in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        unescaped = unescaped.replace(entity, mark)
    assert "".join(unescaped.split()) == "".join(said)


@given(transcripts())
def test_subtitles_keep_their_limits_whatever_times_are_known(transcript):
    found = cues(transcript)
    for cue in found:
        assert 1 <= len(cue.lines) <= NUM_LINES
        assert all(0 < len(line) <= LINE_CHARS for line in cue.lines)
        assert 0 < cue.end_ms - cue.start_ms <= 7000
    edges = [0, *(at for cue in found for at in (cue.start_ms, cue.end_ms))]
    assert edges == sorted(edges)
    edges.append(max(edges[-1], milliseconds(transcript.duration_s)))
    for number, cue in enumerate(found):
        if cue.end_ms - cue.start_ms < 1000:  # there was no room, on neither side
            before, after = edges[2 * number], edges[2 * number + 3]
            assert (cue.start_ms, cue.end_ms) == (before, after)


def test_words_without_times_take_theirs_from_their_neighbours():
    known = [Word("a", 1.0, 2.0, 1.0), Word("d", 6.0, 7.0, 1.0)]
    untimed = [Word(text, None, None, None) for text in ("bb", "cc")]
    words = (known[0], *untimed, known[1])
    found = cues(Transcript("x", 30.0, (segment(0, 30, "a bb cc d", words),)))
    assert [(cue.start_ms, cue.end_ms, cue.lines) for cue in found] == [
        (1000, 7000, ("a bb cc d",)),
    ]
    late = (*untimed, Word("x" * 60, 20.0, 21.0, 1.0))
    found = cues(Transcript("x", 30.0, (segment(0, 16), segment(16, 30, "", late))))
    assert [cue.lines for cue in found] == [("bb cc " + "x" * 21, "x" * 39)]
    assert (found[0].start_ms, found[0].end_ms) == (16_000, 21_000)


def test_a_long_segment_without_times_or_spaces_becomes_several_subtitles():
    spaced, unspaced = "wonderful " * 30, "今日は天気がいいですね。" * 30
    for text in (spaced, unspaced):
        found = cues(Transcript("x", 25.0, (segment(0, 25, text.strip()),)))
        assert len(found) >= 4
        assert (found[0].start_ms, found[-1].end_ms) == (0, 25_000)
        assert all(cue.end_ms - cue.start_ms <= 7000 for cue in found)
    assert all(line.endswith("。") for cue in found for line in cue.lines)


def test_text_cannot_end_or_open_a_cue():
    transcript = Transcript("x", 1.0, (segment(0.0, 1.0, "a <b> & c --> d\n\n7\n00:00"),))
    for name in ("srt", "vtt"):
        assert FORMATS[name](transcript).count("-->") == 1
    assert "a &lt;b&gt; &amp; c --&gt; d 7 00:00" in to_vtt(transcript)


def test_a_long_segment_is_cut_at_word_times_and_at_pauses():
    words = ["wonderful"] * 30
    found = cues(Transcript("x", 12.0, (spoken(words),)))
    assert len(found) > 2
    assert found[1].start_ms == found[0].end_ms
    paused = segment(0, 9, "a b", [Word("a", 0.5, 1.0, 1.0), Word("b", 3.0, 3.5, 1.0)])
    found = cues(Transcript("x", 9.0, (paused,)))
    assert [(cue.start_ms, cue.end_ms) for cue in found] == [(500, 1500), (3000, 4000)]


def test_a_subtitle_by_word_lasts_as_long_as_its_word():
    pair = [Word("one", 0.25, 0.76, 0.9), Word("two", 0.89, 1.68, 0.9)]
    transcript = Transcript("x", 3.0, (segment(0, 3, "one two", pair),))
    expected = [(250, 760, "one"), (890, 1680, "two")]
    assert read(BY_WORD["srt"](transcript)) == read(BY_WORD["vtt"](transcript)) == expected
    assert read(FORMATS["srt"](transcript)) == [(250, 1680, "one two")]


@given(transcripts())
def test_subtitles_by_word_are_monotone_and_hold_every_word(transcript):
    found = monotone(BY_WORD["srt"](transcript))
    said = "".join(c for c in transcript.text if c.isprintable()).split()
    assert "".join("".join(text.split()) for *_, text in found) == "".join(said).replace("-->", "→")


def test_silence_is_no_subtitle_and_no_segment_of_openai():
    transcript = Transcript("x", 3.0, (segment(0, 1), segment(1, 2, "hi"), segment(2, 3)))
    assert len(cues(transcript)) == 1
    (only,) = verbose(transcript)["segments"]
    assert (only["id"], only["start"], only["end"], only["text"]) == (0, 1, 2, "hi")


def test_verbose_json_has_words_only_where_they_have_times():
    plain = Transcript("x", 1.0, (segment(0, 1, "hi", [Word("hi", None, None, 0.5)]),))
    assert "words" not in verbose(plain)
    timed = Transcript("x", 0.8, (spoken(["hi", "you"]),))
    assert verbose(timed)["words"][1] == {"word": "you", "start": 0.4, "end": 0.8}
    assert json.loads(FORMATS["verbose_json"](timed))["duration"] == 0.8


@given(st.lists(st.floats(0, 400_000), max_size=5).map(sorted))
def test_rounding_keeps_the_order(times):
    rounded = [milliseconds(t) for t in times]
    assert rounded == sorted(rounded)


def test_a_transcript_that_leaves_seconds_out_cannot_be_made():
    with pytest.raises(ValueError, match=r"cover 2\.000 s of 3\.000 s"):
        Transcript("x", 3.0, (segment(0, 1), segment(2, 3)))
    assert Transcript("x", 3.0, (segment(0, 2), segment(1, 3))).covered_s == 3.0


def test_missing_seconds_are_those_of_the_notes():
    lost = Note("cut off: its header announces 4.50 s", Reason.DAMAGED, 1.5)
    noted = Transcript("x", 3.0, (segment(0, 3),), (lost, "clipped"))
    made = noted.to_dict()
    assert (made["covered_s"], made["missing_s"], made["notes"]) == (3.0, 1.5, [lost, "clipped"])
    assert verbose(noted)["notes"] == [lost, "clipped"]
    assert verbose(noted)["missing_s"] == 1.5
    assert "notes" not in verbose(Transcript("x", 3.0, (segment(0, 3),)))
