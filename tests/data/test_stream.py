"""A stream goes on exactly where its state says, in another process too."""

import json
import zipfile
from importlib.util import find_spec

import datasets
import numpy as np
import pytest
import toys
from data.broken import encoded, tone

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.stream import ExampleStream
from tiny_audio.model.errors import ConfigError

NUM_ROWS = 23
BAD_ROWS = {4: "empty text", 5: "0 bytes", 11: "shorter than 0.1 s", 22: "no audio"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three parquet files in row groups of four, audio embedded, some rows of no use."""
    rows = []
    for number in range(NUM_ROWS):
        seconds = 0.05 if number == 11 else 0.2 + number / 100
        data = b"" if number == 5 else encoded(tone(seconds, 200 + 10 * number))
        audio = None if number == 22 else {"bytes": data, "path": f"{number}.flac"}
        text = "\x00" if number == 4 else f"clip {number}"
        rows.append({"audio": audio, "text": text, "speaker": number % 3})
    folder = tmp_path_factory.mktemp("parquet")
    for shard, (first, last) in enumerate([(0, 10), (10, 13), (13, NUM_ROWS)]):
        part = datasets.Dataset.from_list(rows[first:last])
        part = part.cast_column("audio", datasets.Audio())
        part.to_parquet(folder / f"train-0000{shard}-of-00003.parquet", batch_size=4)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def stream(path, dropped=None, limits=None, **config):
    source = SourceConfig(path=str(path), streaming=True, **config)
    return ExampleStream("here", source, limits or Limits(), dropped or Dropped())


def facts(examples):
    """All that two runs have to agree on."""
    return [
        (e.where, e.text, e.speaker, e.duration_s, e.source, e.prompt, e.sound.digest())
        for e in examples
    ]


def test_a_stream_gives_what_reading_the_whole_gives(folder):
    dropped, counted = Dropped(), Dropped()
    examples, state = stream(folder, dropped).take(1000)
    whole = read_source("here", SourceConfig(path=str(folder)), Limits(), counted)
    assert state is None
    assert facts(examples) == facts(whole)
    assert dropped == counted
    where = f"{folder}:train"
    assert dropped.places == {reason: [f"{where}[{row}]"] for row, reason in BAD_ROWS.items()}
    for example, other in zip(examples, whole, strict=True):
        assert np.array_equal(example.sound.samples(), other.sound.samples())
        assert len(example.sound.samples()) == round(example.duration_s * 16_000)


@pytest.mark.parametrize("count", toys.quick(range(1, 19), (1, 2, 9, 18)))
def test_three_and_the_rest_are_all(folder, count):
    """Saved as JSON after any number of clips, and taken up by a stream that knows nothing else."""
    everything = facts(stream(folder).take(1000)[0])
    before, after = Dropped(), Dropped()
    first, state = stream(folder, before).take(count)
    rest, end = stream(folder, after).take(1000, json.loads(json.dumps(state)))
    assert len(first) == count
    assert end is None
    assert facts(first) + facts(rest) == everything
    assert before.counts() + after.counts() == dict.fromkeys(BAD_ROWS.values(), 1)


def test_one_stream_goes_on_back_and_around(folder):
    everything = facts(stream(folder).take(1000)[0])
    one, states, taken = stream(folder), [None], []
    while True:
        more, state = one.take(4, states[-1])
        taken += facts(more)
        states.append(state)
        if state is None:
            break
    assert taken == everything
    assert len(states) == 6
    again, _ = one.take(4, states[2])
    assert facts(again) == everything[8:12]
    assert facts(one.take(1000, states[2])[0]) == everything[8:]
    assert facts(one.take(2)[0]) == everything[:2]


def test_limit_holds_across_states(folder):
    everything = facts(stream(folder).take(1000)[0])
    first, state = stream(folder, limit=7).take(5)
    rest, end = stream(folder, limit=7).take(5, state)
    assert facts(first) + facts(rest) == everything[:7]
    assert end is None


def test_saved_datasets_stream_too(folder, tmp_path):
    files = sorted(map(str, folder.glob("*.parquet")))
    dataset = datasets.load_dataset("parquet", data_files=files, split="train")
    dataset = dataset.cast_column("audio", datasets.Audio(decode=False))
    dataset = dataset.map(lambda _, row: {"label": int(row > 9)}, with_indices=True)
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=["short", "long"]))
    datasets.DatasetDict({"test": dataset}).save_to_disk(tmp_path / "saved")
    found, state = stream(tmp_path / "saved", split="test", text="label").take(8)
    rest, _ = stream(tmp_path / "saved", split="test", text="label").take(1000, state)
    assert [e.text for e in [*found, *rest]] == 9 * ["short"] + 11 * ["long"]


def test_audio_that_lies_elsewhere_is_fetched(tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(tone(), "WAV"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/b.wav", encoded(tone(0.3), "WAV"))
    (tmp_path / "table").mkdir()
    places = [f"{tmp_path}/a.wav,one", f"zip://in/b.wav::{tmp_path}/all.zip,two", "/gone.wav,three"]
    (tmp_path / "table" / "train.csv").write_text("\n".join(["file,said", *places]))
    dropped = Dropped()
    columns = {"audio": "file", "text": "said"}
    examples, _ = stream(f"hf:{tmp_path}/table", dropped, **columns).take(9)
    assert [(e.text, e.duration_s) for e in examples] == [("one", 0.5), ("two", 0.3)]
    assert dropped.counts() == {"no such file": 1}


def test_what_cannot_be_streamed_is_refused(folder, tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(tone(), "WAV"))
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(ConfigError, match=r"streaming=true, but .* is no dataset"):
        stream(tmp_path)
    with pytest.raises(ConfigError, match=r"has no 'txet'. Did you mean 'text'\?"):
        stream(folder, text="txet")
    with pytest.raises(ConfigError, match=r"split 'test'.* Available splits: \['train'\]"):
        stream(folder, split="test")
    _, state = stream(folder).take(3)
    datasets.load_dataset(str(folder), split="train").save_to_disk(tmp_path / "other")
    with pytest.raises(ConfigError, match="The state is of"):
        stream(tmp_path / "other").take(3, state)


@pytest.mark.skipif(find_spec("torchcodec") is not None, reason="they can be read")
def test_loose_files_of_the_hub_name_the_way_round(tmp_path):
    """`datasets` opens them with torchcodec, which is part of no extra."""
    folder = tmp_path / "loose"
    folder.mkdir()
    (folder / "a.wav").write_bytes(encoded(tone(), "WAV"))
    (folder / "metadata.csv").write_text("file_name,text\na.wav,one\n")
    with pytest.raises(ConfigError, match=r"torchcodec.* without hf:"):
        stream(f"hf:{folder}").take(1)
    with pytest.raises(ConfigError, match=r"torchcodec.* without hf:"):
        read_source("x", SourceConfig(path=f"hf:{folder}"), Limits(), Dropped())
