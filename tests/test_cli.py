"""The command line as a user meets it: its own process, its streams and exit codes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import toys
from typed import typed

from tiny_audio import __version__, cli
from tiny_audio.commands import fail
from tiny_audio.infer import pipes
from tiny_audio.infer.formats import FORMATS
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model import saving, source
from tiny_audio.model.audio import stream_audio
from tiny_audio.model.errors import AudioError

# A toy of random weights hardly believes what it writes.
UNSURE = ("--min-logprob", "-99")


PYTHON = sys.executable


@pytest.fixture(autouse=True, scope="module")
def quick(python):
    global PYTHON
    PYTHON = python


def run(*arguments, **options):
    command = [PYTHON, "-m", "tiny_audio", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "toy"
    return saving.save(toys.toy_preset("nano").build(), folder, whole=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "a.wav"
    soundfile.write(path, toys.clips(12_000)[0].numpy(), 16_000)
    return path


def test_help_and_version_import_no_torch():
    code = (
        "import sys; sys.argv = ['tiny-audio', {!r}]\n"
        "from tiny_audio.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "loaded = {{'torch', 'transformers', 'numpy'}} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code.format(option)], capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    assert __version__ in done.stdout.decode()


def test_json_is_one_object_per_file_and_a_bad_file_fails_alone(model, clip, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all")
    options = ("--model", model, "--format", "json", *UNSURE)
    done = run("transcribe", clip, bad, "-", *options, input=clip.read_bytes())
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [row["file"] for row in rows] == [str(clip), str(bad), "-"]
    assert rows[0]["duration_s"] == rows[2]["duration_s"] == 0.75
    assert rows[0]["text"] == rows[2]["text"] != ""
    assert "text" not in rows[1]
    assert rows[1]["error"] in " ".join(done.stderr.decode().split())
    assert done.returncode == 1


# What is typed, and what it is in Python: of the model, and of one transcription.
OPTIONS = [
    ("--beams 3", {}, {"beams": 3}),
    ("--beams 3 --ctc-weight 0.5 --whole", {}, {"beams": 3, "ctc_weight": 0.5, "whole": True}),
    ("--dtype bfloat16", {"dtype": torch.bfloat16}, {}),
    ("--prompt Describe.", {}, {"prompt": "Describe."}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "loading", "options"), OPTIONS)
def test_options_do_what_they_do_in_python(model, clip, words, loading, options):
    name = "nano" if "ctc_weight" in options else model  # which has a head
    asked = (clip, "--model", name, "--format", "json", *UNSURE)
    done = run("transcribe", *asked, *words.split())
    assert done.returncode == 0, done.stderr.decode()
    found = Transcriber.from_pretrained(name, **loading).transcribe(
        clip, **options, min_logprob=-99.0
    )
    row, plain = json.loads(done.stdout), json.loads(run("transcribe", *asked).stdout)
    assert row["text"] == found.text
    values = [one["mean_logprob"] for one in row["segments"]]
    assert values == pytest.approx([one.mean_logprob for one in found.segments])
    assert values != [one["mean_logprob"] for one in plain["segments"]]


@pytest.mark.slow
def test_subtitles_are_written_beside_each_other(model, clip, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not audio at all")
    options = ("--model", model, "--format", "srt", "--output-dir", tmp_path / "out", *UNSURE)
    done = run("transcribe", clip, bad, "-", *options, input=clip.read_bytes())
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"bad.wav" in done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.srt", "stdin.srt"]
    assert (tmp_path / "out" / "a.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:00,750\n")
    again = ("--output-dir", tmp_path / "again", "--model", model, *UNSURE)
    long = tmp_path / ("x" * 255)
    long.write_bytes(clip.read_bytes())
    named = tmp_path / "Interview v1.2 part"
    named.write_bytes(clip.read_bytes())
    some = run("transcribe", clip, clip, long, named, *again)
    assert some.returncode == 1
    assert [b"a.txt is the text of" in some.stderr, b"255 bytes" in some.stderr] == [True, True]
    names = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert names == ["Interview v1.2 part.txt", "a.txt"]


@pytest.mark.slow
def test_every_format_is_printed(model, clip):
    ours = FORMATS["text"](Transcriber.from_pretrained(model).transcribe(clip, min_logprob=-99.0))
    formats = {"vtt": b"WEBVTT", "srt": b"1\n", "verbose_json": b'{"task"', "text": ours.encode()}
    for name, begins in formats.items():
        done = run("transcribe", clip, "--model", model, "--format", name, *UNSURE)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.startswith(begins)


@pytest.mark.slow
def test_a_pipe_is_written_line_by_line(clip):
    path, text = toys.samples()[0]
    samples, rate = soundfile.read(path, dtype="int16")
    done = run("stream", "--rate", rate, input=samples.tobytes())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == text.split()
    refused = run("stream", input=clip.read_bytes().replace(b"fmt ", b"tmf "))
    assert refused.returncode == 2
    assert b"arecord" in refused.stderr


def test_a_pipe_s_end_says_what_was_left_out(monkeypatch):
    withheld = Segment(0, 1, "", "no_speech", -3.0, (), "hm")
    monkeypatch.setattr(Transcriber, "transcribe_windows", lambda *_, **__: [withheld])
    sound = (toys.clips(12_000)[0].numpy().clip(-1, 1) * 9_000).astype("<i2")
    done = typed("stream", "--model", "nano", input=sound.tobytes())
    assert done.stdout == "[no speech]\n"
    assert 'too unsure: "hm" (0.0 to 1.0 s)' in done.stderr


def test_ctrl_c_ends_live_sound_and_its_last_words_are_written(monkeypatch):
    def spoken(*_):
        yield from [toys.clips(12_000)[0].numpy().clip(-1, 1)] * 3
        signal.raise_signal(signal.SIGINT)
        yield np.zeros(1_600, np.float32)
        pytest.fail("sound is read after Ctrl-C")

    last = Segment(0, 1, "last words", "stop", -0.1, (), "")
    monkeypatch.setattr(Transcriber, "transcribe_windows", lambda *_, **__: [last])
    monkeypatch.setattr(pipes, "read_sound", lambda *_: (16_000, spoken()))
    before = signal.getsignal(signal.SIGINT)
    done = typed("stream", "--model", "nano")
    assert (done.exit_code, done.stdout) == (0, "last words\n"), done.output
    assert signal.getsignal(signal.SIGINT) is before


def test_closed_streams_are_empty_or_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    cli.open_closed_streams()
    assert sys.stdin.buffer.read() == b""
    sys.stdin.close()
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit, match="2"):
        cli.open_closed_streams()
    assert "stdout is closed" in capsys.readouterr().err


@pytest.mark.slow
def test_cures_that_messages_name_can_be_typed(model, tmp_path):
    left, right = toys.clips(12_000, 12_000)
    stereo, cut = tmp_path / "stereo.wav", tmp_path / "cut.wav"
    soundfile.write(stereo, torch.stack([left, right], 1).numpy(), 16_000)
    cut.write_bytes(stereo.read_bytes()[:20_000])
    options = ("--model", model, "--format", "json")
    failed = run("transcribe", cut, *options)
    assert failed.returncode == 1
    assert b"--allow-truncated" in failed.stderr
    done = run("transcribe", cut, "--allow-truncated", *options)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["notes"]
    texts = [run("transcribe", stereo, "--channel", n, *options).stdout for n in (0, 1)]
    assert texts[0] != texts[1]


@pytest.mark.slow
def test_silence_is_said_to_be_no_speech(tmp_path):
    soundfile.write(tmp_path / "silent.wav", torch.zeros(16_000).numpy(), 16_000)
    assert run("transcribe", tmp_path / "silent.wav").stdout == b"[no speech]\n"
    row = json.loads(run("transcribe", tmp_path / "silent.wav", "--format", "json").stdout)
    assert (row["text"], row["outcome"]) == ("", "no_speech")


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_stops_nothing(model, clip, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    with open(odd, "wb") as file:
        file.write(clip.read_bytes())
    options = ("--model", model, "--format", "json")
    done = run(
        "transcribe", os.fsdecode(odd), clip, *options, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.splitlines()) == 2


def test_a_pipe_without_end_is_an_error(model, monkeypatch):
    class Endless:
        def read(self, size):
            return b"\0" * size

    monkeypatch.setattr(source, "MOST_PIPED_BYTES", 2**22)
    with pytest.raises(AudioError, match="more than 4,194,304 bytes"):
        next(stream_audio(Endless()))


def test_a_message_names_its_file_once(capsys):
    fail("zero.wav", AudioError("zero.wav: 0 bytes. Record it again."))
    fail("b.wav", AudioError("stopped"))
    assert capsys.readouterr().err.split("\n")[:2] == [
        "error: zero.wav: 0 bytes. Record it again.",
        "error: b.wav: stopped",
    ]


@pytest.mark.slow
def test_a_terminal_shows_a_bar_while_stdout_still_goes_to_its_file(model, clip):
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "tiny_audio", "transcribe", clip, "--model", model]
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=300
    )
    os.close(theirs)
    assert done.returncode == 0
    assert len(done.stdout.decode().splitlines()) == 1
    assert b"transcribing" in os.read(ours, 65536)


# What the message names, and what was wrong.
WRONG = {
    "nowhere/at/all": ("--model", "nowhere/at/all"),
    "toaster": ("--device", "toaster"),
    "xml": ("--format", "xml"),
    "nowhere": ("--timestamps", "word", "--aligner", "nowhere"),
    "--format": ("--fromat", "json"),
    "would be one srt file on stdout": ("other.wav", "--format", "srt"),
    "would be one dialogue on stdout": ("other.wav", "--diarize"),
    "cannot be made": ("--output-dir", "/dev/null/x"),
    "give at least two beams": ("--ctc-weight", "0.3"),
    "2 <audio> placeholder(s) but 1 clip(s)": ("--prompt", "<audio> and <audio>"),
    "must fit into the decoder's": ("--prompt", "word " * 10_000),
    "nothing uses this head": ("--aligner", "nowhere"),
}


QUICK = ("nowhere/at/all", "--format", "2 <audio> placeholder(s) but 1 clip(s)")


@pytest.mark.parametrize("said", toys.quick(WRONG, QUICK))
def test_wrong_use_exits_with_2_and_says_why(clip, said):
    done = run("transcribe", clip, *WRONG[said])
    assert done.returncode == 2
    assert said in " ".join(done.stderr.decode().split())
    assert done.stdout == b""


def test_control_characters_of_a_name_do_not_reach_the_terminal():
    done = typed("transcribe", "a\x1b[2J\x07b.wav")
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\x07" not in done.output
    assert "a\\x1b[2J\\x07b.wav" in done.output


def test_ask_answers_about_stretches_and_in_turns_and_says_what_is_cut(model, clip):
    asked = ["--audio", f"{clip}@0.1-0.6", "--max-tokens", "3", "--model", str(model)]
    made = typed("ask", "What?", *asked, "--json")
    answer = json.loads(made.stdout)
    assert (made.exit_code, answer["finish_reason"]) == (1, "length")
    turns = f"and now?\n/audio {clip}\nAnd <audio>?\nTwo: <audio> <audio>\n"
    chat = typed("ask", "--chat", "--json", *asked, input=turns)
    costs = [json.loads(line)["prompt_tokens"] for line in chat.stdout.splitlines()]
    assert len(costs) == 3
    assert costs == sorted(set(costs))
    assert "2 <audio> placeholder(s) but 0 clip(s)" in chat.stderr
    assert chat.exit_code == 1
    plain = typed("ask", "What?", *asked)
    assert "the answer is incomplete" in plain.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("/audio {clip}\n", "a.wav: no question followed"),
        ("/audio /missing.wav\nWhat?\n", "/missing.wav"),
    ],
)
def test_a_chat_that_answers_less_than_it_was_given_exits_with_1(model, clip, lines, said):
    made = typed("ask", "--chat", "--model", model, input=lines.format(clip=clip))
    assert made.exit_code == 1
    assert said in made.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nothing is asked"),
        (["<audio>?"], "1 <audio> placeholder(s) but 0 clip(s)"),
        (["a", "--audio", "/missing.wav@1-2"], "/missing.wav"),
    ],
)
def test_ask_refuses_what_cannot_be_asked(model, arguments, said):
    made = typed("ask", *arguments, "--model", str(model))
    assert made.exit_code == 2
    assert said in made.stderr.replace("\n", " ")
