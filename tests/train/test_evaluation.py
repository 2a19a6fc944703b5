"""An evaluation writes what `transcribe` writes, greedily or with beams."""

from dataclasses import replace

import pytest
from toy_runs import example, toy_model

from tiny_audio.data.mixture import DataConfig
from tiny_audio.infer.transcriber import AS_WRITTEN, Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.generation import token_limit
from tiny_audio.train.evaluation import Evaluation


def test_it_searches_among_as_many_texts_as_the_recipe_says():
    model, examples = toy_model().eval(), [example(number) for number in range(4)]
    written = {}
    for beams in (1, 3):
        row = Evaluation(model, examples, DataConfig(validation_beams=beams), 0)()
        written[beams] = {one["text"]: one["hypothesis"] for one in row["samples"]}
        for clip in examples:
            window = Window(0, load_audio(clip.sound.data).samples)
            request = replace(AS_WRITTEN, beams=beams)
            (heard,) = Transcriber(model).transcribe_windows([window], request=request)
            assert written[beams][clip.text] == heard.text
    assert written[1] != written[3]


def test_no_beam_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"data\.validation_beams=0 must be greater than 0"):
        DataConfig(validation_beams=0)


def test_questions_about_several_clips_are_evaluated_beside_others():
    """Their texts are those of `ask`; a wrong clip or silence takes the place of each clip."""
    model, examples = toy_model().eval(), [example(number) for number in range(3)]
    question = "Is <audio> before <audio>?"
    pair = replace(example(3), more=(example(0).sound,), prompt=question)
    judge = Evaluation(model, [*examples, pair], DataConfig(), 0)
    row = judge()
    assert row["clips"] == 4
    assert not judge.collator.dropped.counts()
    assert len({row["loss"], row["loss_shuffled"], row["loss_silent"]}) == 3
    clips = [load_audio(sound.data).samples for sound in (pair.sound, *pair.more)]
    most = token_limit(sum(map(len, clips)) / SAMPLE_RATE)
    answer = Transcriber(model).ask(question, clips, max_tokens=most, sampling_rate=SAMPLE_RATE)
    assert {one["text"]: one["hypothesis"] for one in row["samples"]}[pair.text] == answer.text
    alone = Evaluation(model, [pair], DataConfig(), 0)()
    assert alone["clips"] == 1
    assert alone["loss_shuffled"] == alone["loss"] != alone["loss_silent"]
