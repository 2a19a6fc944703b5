"""A row means what it says: its fields are read by any of their usual names, or it is refused."""

import json

import datasets
import numpy as np
import pytest
from data.broken import encoded, noise, tone

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.fields import NAMES
from tiny_audio.data.sounds import FileSound
from tiny_audio.data.stream import ExampleStream
from tiny_audio.data.stretches import PartSound
from tiny_audio.evaluate.clips import ALL
from tiny_audio.model.errors import AudioError, ConfigError

NO_STRETCH = "no stretch of seconds (start and end, or offset and duration)"


def read(path, **config):
    dropped = Dropped()
    return read_source("here", SourceConfig(path=str(path), **config), Limits(), dropped), dropped


@pytest.fixture
def folder(tmp_path):
    """Eight seconds of noise, of two channels, as a.wav."""
    (tmp_path / "a.wav").write_bytes(encoded(np.stack([noise(8.0), tone(8.0)], 1), "WAV"))
    return tmp_path


def one_row(folder, **fields):
    """The example of a manifest of one row, or why there is none."""
    path = folder / "one.jsonl"
    path.write_text(json.dumps({"audio": "a.wav", "text": "x", **fields}))
    examples, dropped = read(path)
    return examples[0] if examples else next(iter(dropped.places))


STRETCHES = [
    {"start": 1.5, "end": 4},
    {"offset": 1.5, "duration": 2.5},
    {"start": 1.5, "duration": 2.5},
    {"start_time": "1.5", "end_time": "4.0", "duration": 2.5},
    {"offset_ms": 1500, "duration_ms": 2500},
    {"begin": 1.5, "stop": 4, "end": None},
]


@pytest.mark.parametrize("fields", STRETCHES)
def test_a_row_with_times_hears_its_stretch_and_nothing_else(folder, fields):
    example = one_row(folder, **fields)
    whole = FileSound(str(folder / "a.wav")).samples()
    assert example.duration_s == 2.5
    assert np.array_equal(example.sound.samples(), whole[24_000:64_000])
    assert not set(example.columns) & set(fields)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"offset": 2.0}, NO_STRETCH),
        ({"start": 2.0, "end": "soon"}, NO_STRETCH),
        ({"duration": [8.0]}, NO_STRETCH),
        ({"duration": True}, NO_STRETCH),
        ({"offset": -1.0, "duration": 2.0}, NO_STRETCH),
        ({"duration": 1.0}, "duration contradicts the sound"),
        ({"duration": 8.5}, "duration contradicts the sound"),
        ({"start": 1, "end": 3, "duration": 4}, "duration contradicts the sound"),
        ({"offset": 7.0, "duration": 3.0}, "ends before its stretch"),
        ({"start": 1, "offset": 2, "duration": 1}, "start and offset differ: one of them is read"),
        (
            {"segments": [{"start": 0, "end": 1, "text": "x"}]},
            "segments is not read: write one row a segment, with start and end",
        ),
        (
            {"supervisions": [{"text": "x"}]},
            "supervisions is not read: write one row a segment, with start and end",
        ),
        ({"frame_offset": 16000}, "frame_offset is not read: write start and end in seconds"),
        (
            {"audio": None, "recording": {"sources": []}, "supervisions": [{"text": "x"}]},
            "supervisions is not read: write one row a segment, with start and end",
        ),
        ({"channel": [0, 1]}, "channel is not one number"),
        ({"text": "word " * 3000}, "more text than can be spoken in the clip"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_the_reason(folder, fields, reason):
    assert one_row(folder, **fields) == reason


@pytest.mark.parametrize("fields", [{"duration": 8.05}, {"offset": 0, "duration": 8.0}])
def test_a_duration_may_differ_by_what_headers_do(folder, fields):
    assert abs(one_row(folder, **fields).duration_s - 8.0) < 0.01


def test_a_long_answer_to_a_question_is_not_speech(folder):
    assert one_row(folder, text="word " * 3000, prompt="Describe it.").duration_s == 8.0


def test_a_row_with_a_channel_hears_that_one(folder):
    both = [one_row(folder, channel=number).sound.samples() for number in (0, 1)]
    assert np.abs(both[0] - noise(8.0)).max() < 1e-3
    assert np.abs(both[1] - tone(8.0)).max() < 1e-3
    assert one_row(folder, channel="telephone").columns == {"channel": "telephone"}
    for number in (1.0, "1.0", " 1 "):
        assert np.array_equal(one_row(folder, channel=number).sound.samples(), both[1])
    assert one_row(folder, channel=float("nan")).duration_s == 8.0
    for odd in (-1, "-1", 0.5, float("inf"), [0]):
        assert one_row(folder, channel=odd) == "channel is not one number"
    with pytest.raises(AudioError, match="there is no channel=2"):
        one_row(folder, channel=2).sound.samples()


@pytest.mark.parametrize("audio", NAMES["audio"])
@pytest.mark.parametrize("text", NAMES["text"][:2])
def test_other_names_of_audio_and_text_are_read(folder, audio, text):
    example = one_row(folder, **{"audio": None, "text": None, audio: "a.wav", text: "hello"})
    assert (example.text, example.duration_s, example.columns) == ("hello", 8.0, {})


def test_two_names_for_one_thing_are_refused_unless_one_is_named(folder):
    row = {"text": None, "sentence": "one", "transcript": "two"}
    assert one_row(folder, **row) == (
        "text under several names (sentence, transcript): give text=NAME"
    )
    examples, _ = read(folder / "one.jsonl", text="transcript")
    assert examples[0].text == "two"
    assert one_row(folder, sentence="one").text == "x"  # a name of ours goes first


def test_stretches_of_a_file_are_those_of_the_whole_in_any_order(folder, monkeypatch):
    whole = FileSound(str(folder / "a.wav")).samples()
    monkeypatch.setattr("tiny_audio.data.stretches.BLOCK_S", 1.0)
    monkeypatch.setattr("tiny_audio.data.stretches.BLOCK", 16_000)
    for start, end in ((3.2, 4.9), (0.0, 8.0), (0.5, 1.0), (7.0, 8.0), (2.0, 3.0)):
        for kept in (900.0, 0.0):
            monkeypatch.setattr("tiny_audio.data.stretches.KEPT_S", kept)
            part = PartSound(FileSound(str(folder / "a.wav")), start, end).samples()
            assert np.array_equal(part, whole[round(start * 16_000) : round(end * 16_000)])


def test_a_file_that_changed_is_decoded_again(folder):
    part = PartSound(FileSound(str(folder / "a.wav")), 1.0, 2.0)
    before = part.samples()
    (folder / "a.wav").write_bytes(encoded(tone(9.0, 100), "WAV"))
    assert not np.array_equal(before, part.samples())


TABLE = "path\tsentence\tclient_id\tage\n"


def test_a_folder_of_common_voice_is_read_by_its_table(folder):
    (folder / "clips").mkdir()
    (folder / "a.wav").rename(folder / "clips" / "a.wav")
    lines = [
        'a.wav\t"Stop, he said.\tann\t30',
        'a.wav\t"""Stop"", he said."\tann\t',
        "a.wav\tone cell less\tbob",
        "gone.wav\tgone\tbob\t",
        "",
        "a.wav\tnot caf\udce9 in UTF-8\tbob\t",
    ]
    table = folder / "train.tsv"
    table.write_bytes((TABLE + "\n".join(lines)).encode("utf-8", "surrogateescape"))
    examples, dropped = read(table)
    assert [(e.text, e.speaker, e.columns["age"]) for e in examples] == [
        ('"Stop, he said.', "ann", "30"),
        ('"Stop", he said.', "ann", ""),
    ]
    assert dropped.places == {
        "not as many cells as the header": [f"{table}:4"],
        "no such file": [f"{table}:5"],
        "not UTF-8": [f"{table}:7"],
    }
    with pytest.raises(ConfigError, match=r"Did you mean .*train\.tsv\?"):
        read(folder)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_csv_may_quote_and_be_parted_by_any_usual_mark(folder, mark):
    table = folder / "m.csv"
    rows = [["file_name", "transcription", "offset", "duration"]]
    rows += [["a.wav", f'"a {mark} ""b""\nc"', "1", "2.0"], ["a.wav", "whole", "", ""]]
    table.write_text("\ufeff" + "\n".join(mark.join(row) for row in rows))
    examples, dropped = read(table)
    assert [(e.duration_s, e.where) for e in examples] == [(2.0, f"{table}:2"), (8.0, f"{table}:4")]
    assert examples[0].text == " ".join(f'a {mark} "b" c'.split())
    assert not dropped.places
    table.write_text(table.read_text() + "\na.wav" + mark + '"never closed' + mark)
    assert read(table)[1].places == {"quotation marks do not match": [f"{table}:5"]}


def test_a_csv_that_cannot_be_parted_into_lines_and_cells_is_refused(folder):
    table = folder / "m.csv"
    table.write_bytes(b"audio,text\ra.wav,one\ra.wav,two\r")  # as on a Macintosh before 2001
    with pytest.raises(ConfigError, match=r"no header that can be read .*new-line.*lines that end"):
        read(table)
    table.write_bytes(b"audio,text" + b"x" * 200_000)
    with pytest.raises(ConfigError, match="no header that can be read"):
        read(table)
    table.write_bytes(b"audio,text\na.wav,one\rtwo\na.wav,three\n")
    examples, dropped = read(table)
    assert [one.text for one in examples] == ["three"]
    assert dropped.places == {
        "a line ends within a cell that is not quoted": [f"{table}:2"],
    }


def test_a_table_without_audio_or_text_is_refused_with_its_columns(folder):
    (folder / "metadata.csv").write_text("LJ001-0001|Printing, in the only sense|Printing\n")
    with pytest.raises(ConfigError, match=r"has no 'audio'.*audio is also read as: audio_filepath"):
        read(folder)
    (folder / "metadata.csv").write_text("file_name,label\na.wav,dog\n")
    with pytest.raises(ConfigError, match="has no 'text'"):
        read(folder)
    assert read(folder, text="label")[0][0].text == "dog"


def test_json_arrays_and_manifests_of_nemo_are_read(folder):
    rows = [{"audio_filepath": "a.wav", "text": f"{n}", "duration": 8.0} for n in range(2)]
    path = folder / "m.json"
    for written in (
        json.dumps(rows, indent=1),
        "\n".join(map(json.dumps, rows)),
        "\ufeff" + json.dumps(rows),
    ):
        path.write_text(written)
        assert [e.text for e in read(path)[0]] == ["0", "1"]
    path.write_text(json.dumps(rows[0]))
    assert len(read(path)[0]) == 1
    path.write_text(json.dumps([*rows, 7]))
    assert read(path)[1].places == {"not a JSON object": [f"{path}[2]"]}
    path.write_text(json.dumps(rows)[:-5])
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read(path)
    path.write_text(json.dumps({"data": rows}))
    with pytest.raises(ConfigError, match=r"holds one object \(data\)"):
        read(path)


def test_a_dataset_is_read_by_other_names_and_its_times_are_compared(folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    data = (folder / "a.wav").read_bytes()
    rows = {
        "wav": [{"bytes": data, "path": None}] * 3,
        "sentence": ["good", "short", "cut"],
        "duration": [8.0, 1.0, None],
        "begin_time": [None, None, 2.0],
        "end_time": [None, None, 3.0],
    }
    made = datasets.Dataset.from_dict(rows).cast_column("wav", datasets.Audio())
    made.to_parquet(folder / "set" / "train-00000-of-00001.parquet")
    examples, dropped = read(folder / "set")
    assert [e.text for e in examples] == ["good"]
    assert {reason: len(at) for reason, at in dropped.places.items()} == {
        "duration contradicts the sound": 2
    }
    counted = Dropped()
    source = SourceConfig(path=str(folder / "set"), streaming=True)
    streamed, _ = ExampleStream("here", source, ALL, counted).take(9)
    assert [e.text for e in streamed] == ["good"]
    assert counted.counts() == dropped.counts()


def test_a_row_may_hold_several_files_in_the_order_of_its_question(folder):
    (folder / "b.wav").write_bytes(encoded(noise(2.0), "WAV"))
    example = one_row(folder, audio=["b.wav", "a.wav"], prompt="<audio> or <audio>?")
    assert [part.sound.name for part in example.parts()] == [
        str(folder / name) for name in ("b.wav", "a.wav")
    ]
    assert example.duration_s == pytest.approx(10.0)
    assert [len(part.sound.samples()) for part in example.parts()] == [32_000, 128_000]
    assert one_row(folder, audio=["b.wav", "missing.wav"]) == "no such file"
    assert one_row(folder, audio=["b.wav", 7]) == "audio is not a string"
    assert one_row(folder, audio=[]) == "audio is not a string"
