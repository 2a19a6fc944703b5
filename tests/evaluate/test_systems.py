from dataclasses import replace

import pytest
import torch
import toys

from tiny_audio.evaluate.systems import OurModel, weights_sha256
from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, unpooled
from tiny_audio.infer.timestamps import Aligner
from tiny_audio.infer.transcriber import Request, Transcriber


@pytest.fixture(scope="module")
def toy():
    return OurModel("toy", Transcriber(toys.toy_preset("nano").build()))


@pytest.mark.slow
def test_clips_are_answered_as_transcribe_answers_them_short_and_long(toy):
    """nano hears 10 s at once; what is longer is cut as `transcribe` cuts it."""
    short, long, other = toys.clips(4_800, 11 * 16_000, 3_200)
    answers = toy.answer([short, long, other], ["", "", "Describe this."])
    transcriber = Transcriber(toy.model)
    for answer, clip, prompt in zip(
        answers, (short, long, other), (None, None, "Describe this."), strict=True
    ):
        whole = transcriber.transcribe(clip, sampling_rate=16_000, prompt=prompt)
        assert (answer.text, answer.outcome) == (whole.text, whole.outcome)


def test_a_clip_that_cannot_be_answered_fails_alone(toy):
    good = toys.clips(4_800)[0]
    bad = torch.full((4_800,), float("nan"))
    answers = toy.answer([good, bad, good], ["", "", ""])
    assert [one.text is None for one in answers] == [False, True, False]
    assert answers[1].outcome == "error"
    assert "NaN" in answers[1].error or "finite" in answers[1].error
    assert answers[0] == answers[2]


def test_a_question_about_two_clips_is_answered_as_ask_answers_it(toy):
    clips = toys.clips(4_800, 9_600)
    asked = "Which is longer, <audio> or <audio>?"
    whole = toy.transcriber.ask(asked, clips, sampling_rate=16_000)
    answer = toy.ask(clips, asked)
    assert answer.text == whole.text
    assert (answer.outcome == "ok") == whole.complete
    refused = toy.ask(clips, "Is <audio> longer?")
    assert (refused.text, refused.outcome) == (None, "error")


def test_beams_search_for_the_answer_and_are_said(toy):
    clips = toys.clips(4_800, 9_600)
    searching = OurModel("toy", toy.transcriber, Request(beams=3))
    made = Transcriber(toy.model).transcribe_many(clips, Request(beams=3), sampling_rate=16_000)
    expected = [(one.text, one.outcome, one.confidence) for one in made]
    answers = searching.answer(clips, ["", ""])
    assert [(one.text, one.outcome, one.confidence) for one in answers] == expected
    assert searching.about()["decode"] == {"method": "beam", "beams": 3}
    assert toy.about()["decode"] == {"method": "greedy"}


def test_a_ctc_head_and_whole_windows_are_said(toy):
    head = CtcHead(CtcHeadConfig(width=toy.model.config.encoder.width, encoder="toy"))
    transcriber = Transcriber(toy.model)
    transcriber.aligner = Aligner(toy.model, unpooled(toy.model.audio_tower), head.eval())
    request = Request(beams=3, ctc_weight=50.0, whole=True, min_logprob=-99.0)
    judged = OurModel("toy", transcriber, request)
    told = judged.about()["decode"]
    assert (told["method"], told["beams"], told["ctc_weight"]) == ("beam", 3, 50.0)
    assert (told["windows"], told["min_logprob"]) == ("whole", -99.0)
    before = told["ctc_head"]
    clips = toys.clips(9_600, 12_800)
    heard = [one.text for one in judged.answer(clips, ["", ""])]
    free = OurModel("toy", transcriber, replace(request, ctc_weight=0.0)).answer(clips, ["", ""])
    assert heard != [one.text for one in free]
    with torch.no_grad():
        head.leave.bias += 1
    assert judged.about()["decode"]["ctc_head"] != before


def test_what_a_model_says_of_itself_changes_with_any_weight(toy):
    before = toy.about()
    assert (before["name"], before["dtype"], before["device"]) == ("toy", "float32", "cpu")
    assert toy.about() == before
    parameter = next(toy.model.language_model.parameters())
    with torch.no_grad():
        parameter.view(-1)[0] += 1
    after = toy.about()
    with torch.no_grad():
        parameter.view(-1)[0] -= 1
    changed = {k for k, v in after["checkpoint"].items() if v != before["checkpoint"][k]}
    assert changed == {"language_model"}


def test_weights_have_the_same_hash_in_a_coarser_dtype():
    layer = torch.nn.Linear(3, 2)
    before = weights_sha256(layer)
    assert weights_sha256(layer.to(torch.bfloat16)) == before
    assert weights_sha256(torch.nn.Linear(3, 2)) != before
