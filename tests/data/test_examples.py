"""Every kind of source gives the same clips, and every unusable row is counted where it stands."""

import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections import Counter

import datasets
import numpy as np
import pytest
from data.broken import broken_manifest, encoded, noise, tone, wav_header
from hypothesis import given
from hypothesis import strategies as st

from recipes.nano.shards import write_shard
from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source, refuse
from tiny_audio.data.manifest import write_manifest
from tiny_audio.data.sounds import BytesSound, FileSound, Region
from tiny_audio.data.stretches import PartSound
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import AudioError, ConfigError, MissingExtra

CLIPS = {
    "a.one": ("WAV", 0.3, 8_000, "One."),
    "a.two": ("FLAC", 0.4, 44_100, "Two!"),
    "b": ("OGG", 0.5, 16_000, "three"),
}


def read(path, limits=None, **config):
    """The examples of a source, and what was dropped."""
    dropped = Dropped()
    source = SourceConfig(path=str(path), **config)
    return read_source("here", source, limits or Limits(), dropped), dropped.places


@pytest.fixture
def folder(tmp_path):
    """Clips with their texts beside them."""
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name, (container, seconds, rate, text) in CLIPS.items():
        samples, subtype = tone(seconds, rate=rate), "VORBIS" if container == "OGG" else "PCM_16"
        path = folder / "deep" / f"{name}.{container.lower()}"
        path.write_bytes(encoded(samples, container, subtype, rate))
        path.with_suffix(".txt").write_text(f"{text}\n")
    return folder


def clips_in(folder):
    """Audio and text of every clip, in the order of a source."""
    paths = sorted(path for path in (folder / "deep").iterdir() if path.suffix != ".txt")
    return [(path, path.with_suffix(".txt").read_text()) for path in paths]


def as_manifest(folder, target):
    target.mkdir()
    rows = [{"audio": str(path.resolve()), "text": text} for path, text in clips_in(folder)]
    write_manifest(target / "manifest.jsonl", rows)
    return target / "manifest.jsonl"


def as_manifest_folder(folder, target):
    return as_manifest(folder, target).parent


def as_tar(folder, target):
    with tarfile.open(target, "w") as archive:
        archive.add(folder / "deep", "clips")
    return target.rename(target.with_suffix(".tar"))


def as_tar_folder(folder, target):
    """Two shards, one with its texts in JSON."""
    target.mkdir()
    clips = clips_in(folder)
    for shard, part in enumerate([clips[:2], clips[2:]]):
        with tarfile.open(target / f"{shard}.tar", "w") as archive:
            for path, _ in part:
                archive.add(path, path.name)
            for path, text in part:
                name = f"{path.stem}.json" if shard else f"{path.stem}.txt"
                data = (json.dumps({"text": text}) if shard else text).encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return target


def as_dataset(folder):
    clips = clips_in(folder)
    rows = {
        "audio": [{"bytes": path.read_bytes(), "path": path.name} for path, _ in clips],
        "text": [text for _, text in clips],
    }
    return datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())


def as_saved_dataset(folder, target):
    as_dataset(folder).save_to_disk(target)
    return target


def as_saved_splits(folder, target):
    datasets.DatasetDict({"train": as_dataset(folder)}).save_to_disk(target)
    return target


def as_parquet(folder, target):
    (target / "data").mkdir(parents=True)
    as_dataset(folder).to_parquet(target / "data" / "train-00000-of-00001.parquet")
    return target


LAYOUTS = [
    as_manifest,
    as_manifest_folder,
    as_tar,
    as_tar_folder,
    as_saved_dataset,
    as_saved_splits,
    as_parquet,
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What `datasets` unpacks stays in the test's own folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_folder_of_pairs_gives_its_clips(folder):
    examples, dropped = read(folder)
    assert not dropped
    assert [e.text for e in examples] == ["One.", "Two!", "three"]
    assert [e.where for e in examples] == [str(folder / "deep" / name) for name in FILES]
    for example, (_, seconds, _, _) in zip(examples, CLIPS.values(), strict=True):
        assert example.duration_s == seconds
        assert len(example.sound.samples()) == seconds * 16_000
        path = example.where
        assert np.array_equal(example.sound.samples(), load_audio(path).samples.numpy())


FILES = [f"{name}.{container.lower()}" for name, (container, *_) in CLIPS.items()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_clips(folder, tmp_path, layout):
    plain, _ = read(folder)
    examples, dropped = read(layout(folder, tmp_path / "laid-out"))
    assert not dropped
    assert len(examples) == len(CLIPS)
    for example, other in zip(examples, plain, strict=True):
        assert (example.text, example.duration_s) == (other.text, other.duration_s)
        assert (example.source, example.speaker, example.prompt) == ("here", "", "")
        assert example.sound.digest() == other.sound.digest()
        assert np.array_equal(example.sound.samples(), other.sound.samples())


def test_a_corpus_gives_its_clips(tmp_path):
    clips = [np.arange(n, dtype=np.int16) for n in (3200, 4800, 8000)]
    rows = [{"text": f"clip {i}", "kind": "book", "speaker": f"speaker {i % 2}"} for i in range(3)]
    write_shard(tmp_path, 0, clips[:2], rows[:2])
    write_shard(tmp_path, 1, clips[2:], rows[2:])
    examples, dropped = read(tmp_path)
    assert not dropped
    assert [(e.text, e.speaker, e.duration_s) for e in examples] == [
        ("clip 0", "speaker 0", 0.2),
        ("clip 1", "speaker 1", 0.3),
        ("clip 2", "speaker 0", 0.5),
    ]
    assert examples[1].where == f"{tmp_path}/shard-00000.jsonl:2"
    for example, clip in zip(examples, clips, strict=True):
        assert np.array_equal(example.sound.samples() * 32768, clip.astype(np.float32))
        assert example.sound.digest() == BytesSound("", clip.tobytes()).digest()

    stored = tmp_path / "shard-00000.i16"
    stored.write_bytes(stored.read_bytes()[:-2])
    left, dropped = read(tmp_path)
    assert [e.text for e in left] == ["clip 0", "clip 2"]
    assert dropped == {"damaged": [f"{tmp_path}/shard-00000.jsonl:2"]}
    with pytest.raises(AudioError, match=r"shard-00000\.jsonl:2: cut off"):
        examples[1].sound.samples()


def test_every_broken_row_is_counted_where_it_stands(tmp_path):
    broken = broken_manifest(tmp_path / "set")
    examples, dropped = read(broken.path)
    assert dropped == broken.dropped
    assert len(dropped) >= 20
    lines = [int(e.where.removeprefix(f"{broken.path}:")) for e in examples]
    assert lines == sorted([*broken.good, *broken.undecodable])
    for line, example in zip(lines, examples, strict=True):
        if line in broken.good:
            assert abs(len(example.sound.samples()) / 16_000 - example.duration_s) < 1e-3
        else:
            with pytest.raises(AudioError) as error:
                example.sound.samples()
            assert error.value.reason == broken.undecodable[line]
    assert [examples[0].text, examples[0].speaker] == ["first", "ann"]
    assert examples[-1].text == "last line goes on"


def test_strict_names_every_place_up_to_fifty(tmp_path):
    dropped = Dropped()
    refuse(dropped)
    dropped.add("no text", "a.jsonl:3")
    dropped.add("0 bytes", "a.jsonl:4")
    dropped.add("no text", "a.jsonl:9")
    with pytest.raises(ConfigError) as error:
        refuse(dropped)
    lines = str(error.value).splitlines()
    assert lines[1:4] == ["  a.jsonl:3: no text", "  a.jsonl:9: no text", "  a.jsonl:4: 0 bytes"]
    for number in range(100):
        dropped.add("0 bytes", f"b.jsonl:{number}")
    with pytest.raises(ConfigError, match=r"(?s)103 rows .*\n  and 53 more\n") as error:
        refuse(dropped)
    assert len(str(error.value).splitlines()) == 53
    assert dropped.counts() == {"no text": 2, "0 bytes": 101}


def test_only_the_same_bytes_with_the_same_text_are_a_duplicate(tmp_path):
    for name, hertz in (("a", 440), ("b", 441), ("c", 440)):
        (tmp_path / f"{name}.wav").write_bytes(encoded(tone(hertz=hertz), "WAV"))
    said = [("a", "x"), ("b", "x"), ("c", "x"), ("c", "y"), ("b", "x"), ("a", "X"), ("c", "x")]
    rows = [{"audio": f"{name}.wav", "text": text} for name, text in said]
    rows[-1]["prompt"] = "Translate."
    write_manifest(tmp_path / "m.jsonl", rows)
    examples, dropped = read(tmp_path / "m.jsonl")
    assert [int(e.where[-1]) for e in examples] == [1, 2, 4, 6, 7]
    assert dropped == {"duplicate": [f"{tmp_path}/m.jsonl:3", f"{tmp_path}/m.jsonl:5"]}
    _, dropped = read(tmp_path / "m.jsonl", Limits(style="lower"))
    assert len(dropped["duplicate"]) == 3


@pytest.mark.slow
def test_limit_keeps_the_first_usable_clips(tmp_path):
    broken = broken_manifest(tmp_path / "set")
    everything, _ = read(broken.path)
    few, dropped = read(broken.path, limit=3)
    assert [e.where for e in few] == [e.where for e in everything[:3]]
    assert sum(map(len, dropped.values())) == 18  # and nothing of what comes after
    assert len(read(broken.path, limit=10**6)[0]) == len(everything)


def test_columns_and_prompts_are_found_by_name(tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(tone(), "WAV"))
    rows = [
        {"file": "a.wav", "words": "eins", "reader": 7, "prompt": "Translate."},
        {"file": "a.wav", "words": "zwei", "reader": " x ", "prompt": ""},
        {"file": "a.wav", "words": "drei", "prompt": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = {"audio": "file", "text": "words", "speaker": "reader"}
    examples, _ = read(tmp_path / "m.jsonl", prompt="Write it down.", **names)
    assert [(e.text, e.speaker, e.prompt) for e in examples] == [
        ("eins", "7", "Translate."),
        ("zwei", "x", ""),
        ("drei", "", "Write it down."),
    ]
    assert read(tmp_path / "m.jsonl")[1] == {
        "no text": [f"{tmp_path}/m.jsonl:{line}" for line in (1, 2, 3)]
    }


def test_lengths_are_inclusive_limits(tmp_path):
    for number, seconds in enumerate((0.5, 1.0, 1.5, 2.0)):
        (tmp_path / f"{number}.wav").write_bytes(encoded(tone(seconds), "WAV"))
        (tmp_path / f"{number}.txt").write_text("x")
    examples, dropped = read(tmp_path, Limits(min_s=1.0, max_s=1.5))
    assert [e.duration_s for e in examples] == [1.0, 1.5]
    assert list(dropped) == ["shorter than 1 s", "longer than 1.5 s"]


def test_half_pairs_are_counted(folder):
    (folder / "deep" / "b.txt").unlink()
    (folder / "alone.txt").write_text("nobody said this")
    (folder / "deep" / "a.one.txt").write_bytes(b"\xff")
    examples, dropped = read(folder)
    assert [e.text for e in examples] == ["Two!"]
    assert dropped == {
        "not UTF-8": [str(folder / "deep" / "a.one.wav")],
        "no text": [str(folder / "deep" / "b.ogg")],
        "no audio": [str(folder / "alone.txt")],
    }


def test_members_of_a_tar_that_cannot_be_used_are_counted(folder, tmp_path):
    path, letter = tmp_path / "a.tar", folder / "deep" / "b.txt"
    with tarfile.open(path, "w") as archive:
        archive.add(folder / "deep" / "b.ogg", "good.ogg")
        archive.add(folder / "deep" / "b.txt", "good.txt")
        archive.add(folder / "deep" / "b.ogg", "silent.ogg")
        archive.add(folder / "deep" / "b.txt", "deaf.txt")
        archive.add(folder / "deep" / "b.txt", "letter.wav")
        archive.add(folder / "deep" / "b.txt", "letter.txt")
        archive.add(folder / "deep" / "b.txt", "json.json")
        archive.add(folder / "deep" / "b.ogg", "json.ogg")
        for name in ("twice.ogg", "twice.wav"):
            archive.add(folder / "deep" / "b.ogg", name)
        archive.add(folder / "deep" / "b.txt", "twice.txt")
        archive.add(folder / "deep" / "b.txt", "link.txt")
        for name in ("again.ogg", "again.txt", "again.TXT", "other.ogg", "other.txt"):
            archive.add(folder / "deep" / "b.ogg" if ".ogg" in name else letter, name)
        for name in ("other", "same"):
            read_in = letter.read_text() if name == "same" else "not that"
            (tmp_path / "a.json").write_text(json.dumps({"text": f"{read_in} "}))
            archive.add(tmp_path / "a.json", f"{name}.json")
        archive.add(folder / "deep" / "b.ogg", "same.ogg")
        archive.add(letter, "same.txt")
        link = tarfile.TarInfo("link.ogg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    examples, dropped = read(path)
    assert [e.where for e in examples] == [f"{path}:good"]
    assert dropped == {
        "two files of one name": [f"{path}:again"],
        "one text in .json, another in .txt": [f"{path}:other"],
        "duplicate": [f"{path}:same"],
        "no text": [f"{path}:silent"],
        "no audio": [f"{path}:deaf"],
        "not audio": [f"{path}:letter"],
        "not a JSON object": [f"{path}:json"],
        "several sounds of one name": [f"{path}:twice"],
        "not a file": [f"{path}:link"],
    }
    path.unlink()
    with pytest.raises(AudioError, match=r"a\.tar: no such file"):
        examples[0].sound.samples()


@pytest.mark.parametrize("cut", [5000, -11_000])
def test_a_damaged_tar_is_refused(folder, tmp_path, cut):
    """Cut off, or with a header in the middle that `tarfile` takes for the end."""
    data = as_tar(folder, tmp_path / "a").read_bytes()
    damaged = data[:cut] if cut > 0 else data[:1536] + b"\1" * 512 + data[2048:]
    (tmp_path / "b.tar").write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"b\.tar is not a tar that can be read"):
        read(tmp_path / "b.tar")


def test_a_stretch_is_a_part_of_its_file(tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(noise(12.0), "WAV"))
    whole = FileSound(str(path)).samples()
    for start_s, end_s in ((0, 12), (0.25, 0.5), (4.5, 10.5), (11, 12)):
        stretch = PartSound(FileSound(str(path)), start_s, end_s)
        expected = whole[round(start_s * 16_000) : round(end_s * 16_000)]
        assert np.array_equal(stretch.samples(), expected)
        assert stretch.measure(30.0)[0] == end_s - start_s
    digests = {PartSound(FileSound(str(path)), 0, end).digest() for end in (11, 12)}
    assert len(digests | {FileSound(str(path)).digest()}) == 3
    for how in (PartSound.samples, lambda sound: sound.measure(30.0)):
        with pytest.raises(AudioError) as error:
            how(PartSound(FileSound(str(path)), 11, 13))
        assert error.value.reason == "ends before its stretch"


def test_headers_that_tell_no_length_are_counted_out():
    pcm = (noise(1.0) * 32767).astype("<i2").tobytes()
    recording = wav_header(16_000, 0xFFFFFFFF - 36)[:44] + pcm  # as programs write into a pipe
    assert BytesSound("live", recording).measure(30.0) == (1.0, len(recording))
    assert BytesSound("live", recording + pcm * 20).measure(2.0)[0] == 21.0  # bytes tell it
    flac = encoded(noise(21.0))
    unknown = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]  # STREAMINFO: 0 samples
    seconds, _ = BytesSound("live", unknown).measure(2.0)
    assert 2.0 < seconds < 21.0  # enough to know
    assert BytesSound("live", unknown).measure(30.0)[0] == 21.0


@given(
    st.binary(max_size=60),
    st.integers(0, 20),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(-30, 30), st.sampled_from([0, 1, 2]), st.integers(0, 30))),
)
def test_a_region_reads_like_a_file_of_its_own(data, before, after, moves):
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes(before) + data + b"\xff" * after)
        region, plain = Region(file, before, len(data)), io.BytesIO(data)
        for offset, whence, size in moves:
            offset = max(0, offset) if whence == 0 else offset
            assert region.seek(offset, whence) == plain.seek(offset, whence)
            assert region.read(size) == plain.read(size)
            assert region.tell() == plain.tell()


def test_a_clip_of_which_a_little_is_missing_is_read_but_not_trained_on():
    """A text is of all the sound: 0.3 of 4 s are noted where a file is read, refused here."""
    cut = encoded(noise(4.0), "WAV")[: -round(0.3 * 32_000)]
    assert load_audio(cut).duration_s == pytest.approx(3.7)
    with pytest.raises(AudioError, match=r"0\.30 s shorter") as error:
        BytesSound("cut", cut).samples()
    assert error.value.reason == "damaged"
    assert len(BytesSound("whole", encoded(noise(4.0), "WAV")).samples()) == 64_000


def test_headers_of_all_formats_agree_with_decoding():
    pytest.importorskip("av")
    from hostile.hostile_files import good_files

    files = good_files()
    assert len(files) > 20
    for name, data in files.items():
        sound = BytesSound(name, data)
        assert abs(sound.measure(30.0)[0] - len(sound.samples()) / 16_000) < 0.05, name


def test_a_joined_file_is_measured_whole():
    """A header knows the first of two recordings, so a batch would be planned too short."""
    pytest.importorskip("av")
    from model.splices import CONTAINERS, clip

    for container in CONTAINERS:
        sound = BytesSound(container, clip(container, 0.8, 16_000) + clip(container, 1.3, 16_000))
        assert sound.measure(30.0)[0] == pytest.approx(len(sound.samples()) / 16_000, abs=0.05)


@pytest.mark.slow
def test_hostile_files_are_measured_right_or_named():
    pytest.importorskip("av")
    from hostile.hostile_files import hostile_files

    verdicts = {name: verdict(name, data) for name, data in hostile_files()}
    reasons = Counter(verdicts.values())
    assert set(reasons) >= {"measured right", "damaged", "not audio", "0 bytes", "no samples"}
    assert not reasons["cannot be read"]
    assert not reasons["measured wrong"]


def verdict(name, data):
    """Whether header and samples agree, or the reason of the error."""
    sound = BytesSound(name, data)
    try:
        seconds, _ = sound.measure(30.0)
        right = seconds > 30 or abs(seconds - len(sound.samples()) / 16_000) < 0.1
        return "measured right" if right else "measured wrong"
    except AudioError as error:
        return error.reason


def test_paths_that_are_no_source_are_refused(folder, tmp_path):
    manifest = as_manifest(folder, tmp_path / "m")
    with pytest.raises(ConfigError, match=r"streaming=true, but .* is no dataset"):
        read(manifest, streaming=True)
    with pytest.raises(ConfigError, match=r"split='test', but .* has no splits"):
        read(manifest, split="test")
    with pytest.raises(ConfigError, match="'nowhere' does not exist"):
        read("nowhere")
    with pytest.raises(ConfigError, match="is no source"):
        read(folder / "deep" / "b.ogg")
    manifest.rename(tmp_path / "m" / "train.jsonl")
    with pytest.raises(ConfigError, match=r"Did you mean .*/m/train\.jsonl\?"):
        read(tmp_path / "m")
    as_tar(folder, tmp_path / "a")
    with tarfile.open(tmp_path / "z.tar", "w:gz") as archive:
        archive.add(folder)
    with pytest.raises(ConfigError, match=r"z\.tar is not a tar .* gunzip it"):
        read(tmp_path / "*.tar")
    (tmp_path / "z.tar").unlink()
    assert len(read(tmp_path / "?.tar")[0]) == 3
    for wrong in ({"path": ""}, {"path": "a", "limit": -1}, {"path": "a", "weight": -0.5}):
        with pytest.raises(ConfigError):
            SourceConfig(**wrong)


def test_datasets_name_what_they_lack(folder, tmp_path):
    saved = as_saved_splits(folder, tmp_path / "saved")
    with pytest.raises(ConfigError, match="It holds the splits 'train'"):
        read(saved, split="test")
    with pytest.raises(ConfigError, match=r"has no 'texts'. Did you mean 'text'\?"):
        read(saved, text="texts")
    parquet = as_parquet(folder, tmp_path / "parquet")
    with pytest.raises(ConfigError, match='Unknown split "test"'):
        read(parquet, split="test")
    with pytest.raises(ConfigError, match="is a stream: read it with ExampleStream"):
        read(parquet, streaming=True)
    with pytest.raises(ConfigError, match="cannot be loaded as a dataset"):
        read("hf:nobody/nothing")
    assert len(read(f"hf:{parquet}")[0]) == 3
    shutil.rmtree(saved)
    with pytest.raises(ConfigError, match="does not exist"):
        read(saved)


def test_without_the_extra_its_name_is_told(folder, tmp_path, monkeypatch):
    parquet = as_parquet(folder, tmp_path / "parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)  # what an import then meets
    with pytest.raises(MissingExtra, match=r"tiny-audio\[hf\]"):
        read(parquet)


def test_rows_of_a_dataset_that_cannot_be_used_are_counted(tmp_path):
    stored, outside = encoded(tone()), tmp_path / "a.wav"
    outside.write_bytes(encoded(tone(hertz=300), "WAV"))
    audio = [
        {"bytes": stored, "path": None},
        {"bytes": None, "path": str(outside)},
        {"bytes": None, "path": None},
        None,
        {"bytes": stored[:2000], "path": "cut"},
        {"bytes": stored, "path": "again"},
        {"bytes": b"", "path": "empty"},
    ]
    rows = {"audio": audio, "label": [1, 0, 0, 0, 0, 1, 0], "speaker": [5, 6, 7, 8, 9, 10, None]}
    dataset = datasets.Dataset.from_dict(rows)
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    dataset.save_to_disk(tmp_path / "saved")
    examples, dropped = read(tmp_path / "saved", text="label")
    assert [(e.text, e.speaker) for e in examples] == [("yes", "5"), ("no", "6"), ("no", "9")]
    where = f"{tmp_path}/saved:train"
    assert dropped == {
        "no audio": [f"{where}[2]", f"{where}[3]"],
        "duplicate": [f"{where}[5]"],
        "0 bytes": [f"{where}[6]"],
    }
    assert examples[1].sound.digest() == FileSound(str(outside)).digest()
    with pytest.raises(AudioError) as error:
        examples[2].sound.samples()
    assert error.value.reason == "damaged"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdd", "speechocean762"])
def test_real_recordings_are_all_usable_and_as_long_as_they_say(shared, name):
    manifest = shared / "data" / name / "train.jsonl"
    examples, dropped = read(manifest)
    assert not dropped
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert len(examples) == len(rows) == 2500
    for example, row in zip(examples, rows, strict=True):
        assert abs(example.duration_s - row["duration_s"]) < 1e-3
        assert (example.text, example.speaker) == (row["text"], row["speaker"])
    some = examples[::500]
    assert [len(e.sound.samples()) for e in some] == [round(e.duration_s * 16_000) for e in some]
