"""Shards together are one process: the same lines in the same order, also after a kill."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import toys
from typed import typed

from tiny_audio.files import write_first_json
from tiny_audio.infer.transcriber import PLAIN, Request, Transcriber
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.saving import save
from tiny_audio.presets import load
from tiny_audio.scale.raydata import Reader, Writer
from tiny_audio.scale.shards import ALL, JOB, REPORT, TEXTS, Shard, Work, clips_of, transcribed

NUM = 11


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A toy that writes at most a few tokens of nonsense, which is all the more unequal."""
    return str(save(toys.toy_preset("nano").build(), tmp_path_factory.mktemp("m") / "m"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Eleven rows: clips of different lengths, a missing file, one that is no audio, a stretch."""
    folder = tmp_path_factory.mktemp("clips")
    for number, clip in enumerate(toys.clips(*(4_000 + 900 * n for n in range(NUM)))):
        soundfile.write(folder / f"{number}.flac", clip.numpy().clip(-1, 1), 16_000)
    rows = [{"audio": f"{number}.flac", "id": f"clip-{number}"} for number in range(NUM)]
    rows[3]["audio"] = "lost.flac"
    (folder / "noise.wav").write_bytes(b"no sound at all")
    rows[7]["audio"] = "noise.wav"
    rows[9] |= {"start": 0.2, "end": 0.6}
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def hears(model):
    return Transcriber(load(model))


def do(work, hears, shard, retry=False, most=None):
    """A shard's lines, or the first of them: what a process does that is killed then."""
    made = transcribed(work.waiting(shard, retry), hears, PLAIN)
    if most is not None:
        made = (line for _, line in zip(range(most), made, strict=False))
    told = []
    work.write(str(shard), made, told.append)
    return told


@pytest.fixture(scope="module")
def single(manifest, model, hears, tmp_path_factory):
    """The folder of one process."""
    folder = tmp_path_factory.mktemp("single") / "out"
    work = Work(manifest, folder, model, PLAIN)
    do(work, hears, Shard())
    work.report()
    return folder


def whole(folder):
    return {name: (folder / name).read_bytes() for name in (ALL, REPORT)}


def test_one_process_keeps_order_texts_and_counts(single, manifest, hears):
    lines = [json.loads(line) for line in (single / ALL).read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"clip-{n}" for n in range(NUM)]
    for number in (0, 5, 10):
        heard = hears.transcribe(manifest.parent / f"{number}.flac")
        assert (lines[number]["text"], lines[number]["outcome"]) == (heard.text, heard.outcome)
    assert lines[9]["duration_s"] == 0.4
    report = json.loads((single / REPORT).read_text())
    assert report["clips"] == report["done"] == NUM
    assert report["outcomes"]["error"] == sum(report["errors"].values()) == 2
    assert [n for n, line in enumerate(lines) if line["text"] is None] == [3, 7]


@pytest.mark.parametrize("count", [2, 3])
def test_shards_are_one_process_whatever_their_number_and_order(
    count, single, manifest, model, hears, tmp_path
):
    work = Work(manifest, tmp_path / "out", model, PLAIN)
    for number in reversed(range(1, count + 1)):
        assert not (tmp_path / "out" / ALL).exists()
        do(work, hears, Shard(number, count))
        work.report()
    assert whole(tmp_path / "out") == whole(single)
    assert [do(work, hears, Shard(n, count)) for n in range(1, count + 1)] == [[]] * count
    work.report()
    assert whole(tmp_path / "out") == whole(single)


def test_a_stopped_shard_goes_on_where_it_stopped_also_as_others(
    single, manifest, model, hears, tmp_path
):
    folder = tmp_path / "out"
    work = Work(manifest, folder, model, PLAIN)
    assert len(do(work, hears, Shard(1, 2), most=2)) == 2
    path = folder / "1-of-2" / TEXTS
    with path.open("a") as file:
        file.write('{"id": "clip-4", "te')  # the line that a kill cuts off
    assert work.report()["done"] == 2
    assert "clip-4" in [clip.id for clip in work.waiting(Shard(1, 2))]
    done = [line for n in (1, 2, 3) for line in do(work, hears, Shard(n, 3))]
    assert len(done) == NUM - 2, "a clip that was done is not done again"
    work.report()
    assert whole(folder) == whole(single)


def test_failed_clips_are_done_again_only_when_asked(single, manifest, model, hears, tmp_path):
    copy = shutil.copytree(manifest.parent, tmp_path / "clips")
    work = Work(copy / "clips.jsonl", tmp_path / "out", model, PLAIN)
    do(work, hears, Shard())
    shutil.copy(copy / "2.flac", copy / "lost.flac")
    work = Work(copy / "clips.jsonl", tmp_path / "out", model, PLAIN)
    assert do(work, hears, Shard()) == []
    again = do(work, hears, Shard(), retry=True)
    assert sorted((line["id"], line["outcome"] == "error") for line in again) == [
        ("clip-3", False),
        ("clip-7", True),
    ]
    assert sum(work.report()["errors"].values()) == 1


def test_of_two_jobs_that_begin_together_the_first_stays(manifest, model, tmp_path):
    (tmp_path / ".1-0.tmp").touch()  # the other one is writing its job
    first = Work(manifest, tmp_path, model, PLAIN).job
    write_first_json(tmp_path / JOB, {**first, "model": "another"})  # after it had looked
    assert json.loads((tmp_path / JOB).read_text()) == first
    assert [path.name for path in tmp_path.glob("*.tmp")] == [".1-0.tmp"]


def test_another_job_and_odd_shards_are_refused(single, manifest, model, tmp_path):
    with pytest.raises(ConfigError, match=r"another job \(request.beams: None there, 2 now\)"):
        Work(manifest, single, model, Request(beams=2))
    with pytest.raises(ConfigError, match=r"\(model: '.*' there, 'nano' now; model_sha256\)"):
        Work(manifest, single, "nano", PLAIN)
    head = tmp_path / "head"
    head.mkdir()
    (head / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"another job \(aligner_sha256\)"):
        Work(manifest, single, model, PLAIN, head)
    with pytest.raises(ConfigError, match="no folder"):
        Work(manifest, tmp_path / "new", model, PLAIN, tmp_path / "nowhere")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        Work(manifest, tmp_path, model, PLAIN)
    for odd in ("0/2", "3/2", "2", "a/b", "1/0", ""):
        with pytest.raises(ConfigError, match="no I/N"):
            Shard.parse(odd)
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"audio": "a.wav", "id": "x"}\n{"audio": "b.wav", "id": "x"}\n')
    with pytest.raises(ConfigError, match="has the id 'x'"):
        clips_of(twice)


def test_rows_need_a_sound_and_an_id_at_most(tmp_path, monkeypatch):
    """No text, an id that is null or an empty cell, and the same ids wherever one stands."""
    table = tmp_path / "clips.csv"
    table.write_text("id,audio\n,a.wav\nb,b.wav\n,c.wav\n")
    (tmp_path / "clips.jsonl").write_text('{"audio": "a.wav", "id": null}\n{"audio": "b.wav"}\n')
    monkeypatch.chdir(tmp_path)
    for named in (table, table.relative_to(tmp_path)):
        assert [clip.id for clip in clips_of(named)] == ["clips.csv:2", "b", "clips.csv:4"]
    assert [clip.id for clip in clips_of("clips.jsonl")] == ["clips.jsonl:1", "clips.jsonl:2"]
    (tmp_path / "none.csv").write_text("id,text\na,hello\n")
    with pytest.raises(ConfigError, match="has no 'audio'"):
        clips_of("none.csv")


def test_a_row_that_is_no_single_sound_fails_with_its_own_reason(tmp_path, hears):
    path = tmp_path / "clips.jsonl"
    rows = ['{"audio": ["a.wav", "b.wav"]}', '{"audio": 5}', "{", '{"supervisions": [{}]}']
    path.write_text("\n".join(rows))
    lines = list(transcribed(clips_of(path), hears, PLAIN))
    assert [line["reason"] for line in lines] == [
        "several sounds in one row: write one row a sound",
        "audio is not a string",
        "not a JSON object",
        "supervisions is not read: write one row a segment, with start and end",
    ]
    assert [line["text"] for line in lines] == [None] * 4
    assert lines[0]["error"].startswith("clips.jsonl:1: several sounds")


def test_what_ray_s_actors_compute_is_what_one_process_writes(single, manifest, model):
    """Without Ray: one clip after another through the reader, all of them through the writer."""
    reader = Reader(str(manifest))
    rows = [reader({"number": number}) for number in range(NUM)]
    batch = {key: np.array([row[key] for row in rows], dtype=object) for key in rows[0]}
    request = json.loads((single / "job.json").read_text())["request"]
    made = {row["id"]: row for row in map(json.loads, Writer(model, request, "cpu")(batch)["line"])}
    expected = [json.loads(line) for line in (single / ALL).read_text().splitlines()]
    assert [made[line["id"]] for line in expected] == expected
    assert len(made) == NUM


def test_a_row_s_own_prompt_is_asked_by_processes_and_by_ray_s_actors(
    manifest, model, hears, tmp_path
):
    """Rows of three prompts, one of which cannot be asked, mixed; other prompts are another job."""
    asked = ["", "Name the sound: <audio>", "Two: <audio> <audio>", ""] * 2
    rows = [{"audio": str(manifest.parent / "0.flac")} for _ in asked]
    for row, prompt in zip(rows, asked, strict=True):
        row |= {"prompt": prompt}
    rows += [{**rows[0], "prompt": None}, {**rows[0], "prompt": 5}]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = Request(prompt="")
    made = list(transcribed(clips_of(path), hears, request))
    texts = {line["id"]: line["text"] for line in made}
    own, other = (
        hears.transcribe(rows[0]["audio"], prompt=prompt).text for prompt in (None, asked[1])
    )
    assert own != other
    expected = [own, other, None, own] * 2 + [own, None]
    assert [texts[f"asked.jsonl:{n}"] for n in range(1, len(rows) + 1)] == expected
    reasons = {line["id"]: line["reason"] for line in made if line["outcome"] == "error"}
    assert reasons["asked.jsonl:10"] == "prompt is not a string"
    assert reasons["asked.jsonl:3"] == "PromptError"
    reader, writer = (
        Reader(str(path)),
        Writer(model, Work(path, tmp_path / "a", model, request).job["request"], "cpu"),
    )
    read = [reader({"number": number}) for number in range(len(rows))]
    batch = {key: np.array([row[key] for row in read], dtype=object) for key in read[0]}
    by_id = {row["id"]: row for row in map(json.loads, writer(batch)["line"])}
    assert by_id == {line["id"]: line for line in made}
    path.write_text("".join(json.dumps({**row, "prompt": ""}) + "\n" for row in rows))
    with pytest.raises(ConfigError, match=r"another job \(clips_sha256\)"):
        Work(path, tmp_path / "a", model, request)


def run(*words):
    return typed("transcribe", *map(str, words))


def test_the_command_counts_failures_and_refuses_what_would_be_idle(
    single, manifest, model, tmp_path
):
    asked = ("--manifest", manifest, "--out", tmp_path / "out", "--model", model)
    done = run(*asked)
    assert done.exit_code == 1, done.output
    assert "11 of 11 clips are done, 1 × no such file, 1 × not audio" in done.output
    assert whole(tmp_path / "out") == whole(single)
    for more, said in (
        (("--timestamps", "word"), "takes no --timestamps"),
        (("--track", 1), "takes no --track"),
        ((manifest,), "takes no FILES"),
        (("--engine", "ray", "--shard", "1/2"), "leave out --shard"),
    ):
        assert said in " ".join(run(*asked, *more).output.split()), more
    assert "only with --manifest" in run(manifest, "--shard", "1/2").output
    assert "Name audio files" in run().output


@pytest.mark.slow
def test_a_killed_process_loses_and_doubles_nothing(single, manifest, model, tmp_path):
    """Processes for two shards; the first is killed after its first line and started again."""
    words = ["transcribe", "--manifest", str(manifest), "--out", str(tmp_path), "--model", model]
    call = [sys.executable, "-c", "from tiny_audio.cli import main; main()", *words, "--shard"]
    first = subprocess.Popen([*call, "1/2"])
    path = tmp_path / "1-of-2" / TEXTS
    while not (path.is_file() and path.stat().st_size) and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    for shard in ("2/2", "1/2"):
        assert subprocess.run([*call, shard]).returncode in (0, 1)
    assert whole(tmp_path) == whole(single)
    lines = [line for p in tmp_path.glob(f"*/{TEXTS}") for line in p.read_text().splitlines()]
    assert len(lines) == NUM
