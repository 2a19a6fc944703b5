import fcntl
import json
from dataclasses import replace

import pytest
import soundfile
import toys

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.evaluate import clips
from tiny_audio.evaluate.evaluator import PREDICTIONS, RUN, RunConfig, Watch, evaluate
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.saved import Saved, common_normalizer
from tiny_audio.evaluate.systems import OurModel
from tiny_audio.files import LOCK, read_json
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.errors import ConfigError

NUM = 12
SPEAKERS = ("ann", "bob", "cem")


@pytest.fixture(scope="module")
def toy():
    return OurModel("toy", Transcriber(toys.toy_preset("nano").build()))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Short clips by three speakers; in one nothing is said, one breaks off behind its header, and
    one is not there."""
    folder = tmp_path_factory.mktemp("set")
    lengths = [3_200 + 400 * n for n in range(NUM)]
    rows = []
    for n, clip in enumerate(toys.clips(*lengths)):
        soundfile.write(folder / f"{n}.wav", clip.numpy(), 16_000)
        rows.append(
            {"audio": f"{n}.wav", "text": f"clip {n}", "speaker": SPEAKERS[n % 3], "age": n}
        )
    rows[5]["text"] = ""
    whole = (folder / "7.wav").read_bytes()
    (folder / "7.wav").write_bytes(whole[:600])
    rows.append({"audio": "gone.wav", "text": "gone", "speaker": "ann", "age": 99})
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(manifest, **changes):
    values = {"name": "set", "normalizer": "plain", "batch_s": 1.5, **changes}
    return RunConfig(source=SourceConfig(path=str(manifest)), **values)


class Record(Watch):
    """What was shown; stops a run the hard way after some clips."""

    def __init__(self, most=NUM):
        self.before, self.shown, self.most = [], [], most

    def resumed(self, table):
        self.before = [one.prediction.id for one in table]

    def sample(self, utterance):
        self.shown.append(utterance.prediction.id)
        if len(self.shown) == self.most:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(toy, manifest, tmp_path_factory):
    return evaluate(toy, config(manifest), tmp_path_factory.mktemp("whole"))


def without_times(folder):
    rows = read_predictions(folder / PREDICTIONS)
    return [replace(row, seconds=0.0) for row in rows]


def test_every_clip_has_one_line_with_all_that_scores_it(whole):
    result, folder = whole
    rows = {row.id: row for row in read_predictions(folder / PREDICTIONS)}
    assert set(rows) == {f"set.jsonl:{n + 1}" for n in range(NUM)}
    assert rows["set.jsonl:4"].columns == {"speaker": "ann", "age": 3}
    assert rows["set.jsonl:4"].audio.endswith("/3.wav")
    assert rows["set.jsonl:6"].ref == ""
    broken = rows["set.jsonl:8"]
    assert (broken.hyp, broken.outcome) == (None, "error")
    assert "7.wav" in broken.error
    assert all(row.hyp is not None for row in rows.values() if row is not broken)
    assert (result["scores"]["clips"], result["scores"]["failed"]) == (NUM, 1)
    assert result["scores"]["wer"]["deletions"] >= 2
    assert result["dataset"]["dropped"] == {"no such file": 1}


def test_scoring_what_was_kept_gives_the_same_result(whole):
    result, folder = whole
    saved = Saved.read(folder)
    again, _ = saved.score(common_normalizer([saved], None))
    assert again == result == read_json(folder / "result.json", "")
    assert result["normalizer"]["id"] == "plain"
    assert result["speed"]["real_time_factor"] > 0
    assert result["speed"]["hardware"]["cores"] > 0
    assert set(result["system"]["checkpoint"]) >= {"audio_tower", "projector", "language_model"}


@pytest.mark.parametrize("most", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_killed_run_goes_on_and_scores_the_same(toy, manifest, whole, tmp_path, most):
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy, config(manifest), tmp_path, Record(most))
    with (tmp_path / PREDICTIONS).open("a") as file:
        file.write('{"id": "set.jsonl:')  # what a power cut leaves
    watch = Record()
    result, _ = evaluate(toy, config(manifest), tmp_path, watch)
    assert (len(watch.before), len(watch.shown)) == (most, NUM - most)
    assert without_times(tmp_path) == without_times(whole[1])
    for key in ("scores", "counters", "dataset"):
        assert result[key] == whole[0][key]


def test_a_run_in_a_folder_that_another_process_has_is_refused(toy, manifest, tmp_path):
    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="in use by another run"):
            evaluate(toy, config(manifest), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("damaged", ["", '{"format": "tiny-audio run 1"', "{}", "[]"])
def test_a_damaged_run_is_a_sentence_with_the_cure(toy, manifest, tmp_path, damaged):
    (tmp_path / RUN).write_text(damaged)
    (tmp_path / PREDICTIONS).write_text("")
    with pytest.raises(ConfigError, match=r"run\.json .*give another --out"):
        evaluate(toy, config(manifest), tmp_path)


def test_a_finished_run_asks_nothing_again(toy, manifest, whole):
    watch = Record()
    evaluate(toy, config(manifest), whole[1], watch)
    assert watch.shown == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed: 42 there, 1 now"),
        ({"prompt": "Describe."}, "prompt"),
        ({"normalizer": "none"}, "normalizer.id: 'plain' there, 'none' now"),
        ({"max_samples": 3}, "dataset.max_samples"),
        ({"where": ("speaker=ann",)}, "dataset.where"),
    ],
)
def test_another_run_in_the_same_folder_is_refused_by_name(toy, manifest, whole, changes, named):
    with pytest.raises(ConfigError, match=named):
        evaluate(toy, config(manifest, **changes), whole[1])


def test_another_model_in_the_same_folder_is_refused(manifest, whole):
    other = OurModel("toy", Transcriber(toys.toy_preset("nano").build()))
    other.model.projector.get_parameter(next(iter(other.model.projector.state_dict()))).data += 1
    with pytest.raises(ConfigError, match=r"system\.checkpoint\.projector"):
        evaluate(other, config(manifest), whole[1])


@pytest.mark.slow
def test_how_much_is_answered_at_once_may_change(toy, manifest, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(toy, config(manifest), tmp_path, Record(4))
    result, _ = evaluate(toy, config(manifest, batch_s=1.0), tmp_path)
    assert result["scores"]["clips"] == NUM


@pytest.mark.slow
def test_runs_without_a_folder_of_their_own_get_one_each(toy, manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [evaluate(toy, config(manifest, max_samples=n), None)[1] for n in (2, 3, 2)]
    assert folders[0] == folders[2] != folders[1]
    assert read_json(folders[0] / RUN, "")["dataset"]["max_samples"] == 2


# Which clips ------------------------------------------------------------------------------------


def ids(manifest, where=(), seed=42, most=0):
    source = SourceConfig(path=str(manifest))
    return [
        clips.identifier(one, source) for one in clips.choose(source, where, seed, most, Dropped())
    ]


def test_clips_are_drawn_by_seed_and_fewer_are_the_first_of_more(manifest):
    assert ids(manifest) == ids(manifest) != ids(manifest, seed=43)
    assert ids(manifest, most=5) == ids(manifest)[:5]
    assert sorted(ids(manifest)) == sorted(ids(manifest, seed=43))


def test_a_filter_keeps_rows_whose_columns_match(manifest):
    assert len(ids(manifest, ["speaker=ann"])) == 4
    assert ids(manifest, ["speaker=ann", "age=3"]) == ["set.jsonl:4"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("speeker=ann", "Did you mean 'speaker'"),
        ("speaker", "COLUMN=VALUE"),
        ("speaker=eve", "no usable"),
    ],
)
def test_a_filter_that_cannot_work_says_why(manifest, where, said):
    with pytest.raises(ConfigError, match=said):
        ids(manifest, [where])


def test_batches_hold_like_lengths_and_every_clip_once(manifest):
    source = SourceConfig(path=str(manifest))
    examples = read_source("set", source, clips.ALL, Dropped())
    made = list(clips.batches(examples, 4.0))
    assert sorted(e.where for b in made for e in b) == sorted(e.where for e in examples)
    assert all(len(b) * max(e.duration_s for e in b) <= 4.0 for b in made)
    assert [[e.where for e in b] for b in clips.batches(examples, 4.0)] == [
        [e.where for e in b] for b in made
    ]


def test_a_stream_is_mixed_within_a_buffer(monkeypatch):
    monkeypatch.setattr(clips, "BUFFER", 8)
    mixed = list(clips.mixed(range(100), 42))
    assert sorted(mixed) == list(range(100)) != mixed
    assert all(n - at < 8 for at, n in enumerate(mixed))
    assert mixed == list(clips.mixed(range(100), 42))


@pytest.mark.slow
def test_a_dataset_is_streamed_with_the_same_texts(toy, manifest, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()][:NUM]
    for row in rows:
        data = (manifest.parent / row["audio"]).read_bytes()
        row["audio"] = {"bytes": data, "path": row["audio"]}
    stored = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    (tmp_path / "set").mkdir()
    stored.to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")
    local = config(manifest, where=("speaker=cem",))
    streamed = replace(local, source=SourceConfig(path=str(tmp_path / "set"), streaming=True))
    folders = [
        evaluate(toy, one, tmp_path / f"out{n}")[1] for n, one in enumerate((local, streamed))
    ]
    texts = [sorted((p.ref, p.hyp) for p in read_predictions(f / PREDICTIONS)) for f in folders]
    assert texts[0] == texts[1]
    assert len(texts[0]) == NUM // 3
    assert read_json(folders[1] / RUN, "")["dataset"]["clips_sha256"] is None


def test_training_still_refuses_clips_without_words(manifest):
    dropped = Dropped()
    examples = read_source("set", SourceConfig(path=str(manifest)), Limits(), dropped)
    assert dropped.counts()["empty text"] == 1
    assert all(example.text for example in examples)
    assert hash(examples[0]) == hash(replace(examples[0], columns={}))
