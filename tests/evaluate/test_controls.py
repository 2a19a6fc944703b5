"""Controls tell a system that listens from one that only knows how answers are spread."""

import json
import sys
from dataclasses import replace

import pytest
import soundfile
from data.broken import tone
from hypothesis import given
from hypothesis import strategies as st

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.evaluate.controls import (
    controlled,
    derangement,
    show_controls,
    understand,
    with_controls,
)
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.systems import Answer
from tiny_audio.evaluate.tasks import TASKS, Task, task
from tiny_audio.evaluate.understanding import score
from tiny_audio.files import LOCK
from tiny_audio.model.errors import ConfigError

PITCH = Task(kind="classification", prompt="High or low?", classes={"high": (), "low": ("deep",)})


class Ear:
    """A system that tells high tones from low ones by counting crossings of zero."""

    def about(self):
        return {"name": "ear", "device": "cpu"}

    def answer(self, clips, asked):
        self.asked = asked
        return [Answer(self.word(clip), "ok") for clip in clips]

    def word(self, clip):
        crossings = int((clip[1:] * clip[:-1] < 0).sum()) / len(clip)
        return "It is high." if crossings > 0.1 else "It is deep."


class Deaf(Ear):
    """Answers what is most frequent, whatever it hears."""

    def word(self, clip):
        return "low"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for n in range(30):
        name = "high" if n % 3 == 0 else "low"
        hertz = {"high": 2100, "low": 200}[name] + 5 * n
        soundfile.write(folder / f"{n}.wav", tone(0.1 + n / 100, hertz), 16_000)
        rows.append(json.dumps({"audio": f"{n}.wav", "pitch": name, "speaker": f"s{n}"}))
    (folder / "manifest.jsonl").write_text("\n".join(rows))
    return SourceConfig(path=str(folder / "manifest.jsonl"), text="pitch")


@pytest.fixture(scope="module")
def clips(source):
    return read_source("tones", source, Limits(), Dropped())


@given(st.integers(2, 60), st.integers(0, 5))
def test_a_derangement_moves_everything_and_loses_nothing(num, seed):
    places = derangement(num, seed)
    assert sorted(places) == list(range(num))
    assert all(place != n for n, place in enumerate(places))
    assert places == derangement(num, seed)


def test_one_clip_cannot_be_swapped():
    with pytest.raises(ConfigError, match="two or more"):
        derangement(1, 0)


def test_an_ear_is_above_its_controls_and_a_deaf_one_is_not(source, clips, tmp_path):
    heard = understand(Ear(), PITCH, clips, source, tmp_path / "ear")
    scores = heard["scores"]
    assert scores["audio"]["accuracy"] == 1
    assert scores["silence"]["accuracy"] == scores["majority"]["accuracy"] == pytest.approx(2 / 3)
    assert scores["swapped"]["accuracy"] < 0.9
    assert heard["listens"]
    deaf = understand(Deaf(), PITCH, clips, source, tmp_path / "deaf")
    assert len({one["accuracy"] for one in deaf["scores"].values()}) == 1
    assert not deaf["listens"]
    assert "NOT above" in show_controls(deaf).title
    assert "NOT above" not in show_controls(heard).title


def test_answers_are_kept_and_score_the_same_again(source, clips, tmp_path):
    result = understand(Ear(), PITCH, clips, source, tmp_path)
    for control, kept in result["scores"].items():
        rows = read_predictions(tmp_path / f"{control}.jsonl")
        assert len(rows) == 30
        assert json.loads(json.dumps(score(PITCH, rows).to_dict())) == json.loads(json.dumps(kept))
        assert {row.prompt for row in rows} == {"High or low?"}
    assert json.loads((tmp_path / "understanding.json").read_text())["listens"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fcntl")
def test_a_folder_that_another_command_writes_to_is_refused(source, clips, tmp_path):
    import fcntl

    with (tmp_path / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(ConfigError, match="in use by another run"):
            understand(Ear(), PITCH, clips, source, tmp_path)


def test_every_clip_is_heard_once_under_every_control(source, clips):
    sizes = {}

    class Counting(Ear):
        def answer(self, given, asked):
            assert all(not clip.any() for clip in given) or all(clip.any() for clip in given)
            kind = "sound" if given[0].any() else "silence"
            sizes.setdefault(kind, []).extend(len(clip) for clip in given)
            return super().answer(given, asked)

    with_controls(Counting(), PITCH, clips, source)
    once = sorted(len(clip.sound.samples()) for clip in clips)
    assert sorted(sizes["silence"]) == once
    assert sorted(sizes["sound"]) == sorted(once * 2)


def test_a_choice_is_asked_with_its_options(source, clips):
    options = ["a high tone", "a low tone"]
    asked = [replace(one, text="B", columns={"options": options}) for one in clips]
    ear = Ear()
    found = with_controls(ear, TASKS["choice"], asked, source)
    assert found["audio"][0].prompt == (
        "A) a high tone\nB) a low tone\nAnswer with the letter only."
    )
    assert score(TASKS["choice"], found["majority"]).accuracy == 1


class Never(Ear):
    """A system that must not be asked."""

    def answer(self, clips, asked):
        raise AssertionError("asked before the references were looked at")


@pytest.mark.parametrize(
    ("kind", "columns", "said"),
    [
        ("emotion", {}, "no answer of this task"),
        ("choice", {"options": "a high tone, a low tone"}, "needs the column options"),
        ("music", {}, "No clip has the column slots"),
        ("music", {"slots": ["piano"]}, "expected an object"),
        ("music", {"slots": '{"instrument": "piano"}'}, "expected an object"),
        ("music", {"slots": {"instrument": ["piano"]}}, "The slot 'instrument' has no"),
    ],
)
def test_references_that_nothing_can_be_compared_to_are_refused_at_once(
    kind, columns, said, source, clips, tmp_path
):
    odd = [replace(one, columns=columns) for one in clips]
    with pytest.raises(ConfigError, match=said):
        understand(Never(), TASKS[kind], odd, source, tmp_path)


@pytest.mark.slow
def test_esc10_has_the_classes_of_describe(shared):
    source = SourceConfig(path=str(shared / "data" / "esc10" / "train.jsonl"), text="label")
    clips = read_source("esc10", source, Limits(), Dropped())[:40]
    found = with_controls(Deaf(), task("describe"), clips, source)
    seen = score(task("describe"), found["audio"])
    assert (seen.accuracy, seen.num_unparsed) == (0, 40)
    assert score(task("describe"), found["majority"]).accuracy > 0


class Pair(Ear):
    """A system that compares the pitch of several clips."""

    def ask(self, clips, asked):
        return Answer(self.word(clips[0]), "ok")


@pytest.fixture
def pairs(clips):
    """Six questions about one clip, and six about two."""
    two = [replace(a, more=(b.sound,)) for a, b in zip(clips[:6], clips[6:12], strict=True)]
    return [*two, *clips[12:18]]


def test_questions_about_two_clips_are_answered_by_who_can(source, pairs):
    answers = with_controls(Pair(), PITCH, pairs, source)
    assert score(PITCH, answers["audio"]).accuracy == 1.0
    assert not any(score(PITCH, answers[name]).num_failed for name in answers)
    failed = [p for p in with_controls(Ear(), PITCH, pairs, source)["audio"] if p.hyp is None]
    assert len(failed) == 6
    assert "this one has 2" in failed[0].error


def test_swapped_and_silent_questions_have_as_many_clips_as_their_own(pairs):
    for control in ("silence", "swapped"):
        others = controlled(pairs, control, 42)
        assert [len(one.parts()) for one in others] == [len(one.parts()) for one in pairs]
        assert all(a.sound != b.sound for a, b in zip(others, pairs, strict=True))
        own_s = [one.duration_s for one in pairs]
        if control == "silence":
            assert [one.duration_s for one in others] == own_s
