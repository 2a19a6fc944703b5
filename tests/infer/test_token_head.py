"""A token head: it belongs to one model, reads its audio embeddings, and judges a search."""

import json

import pytest
import torch
import toys
from pairs import model_of
from safetensors.torch import load_file, save_file

from tiny_audio.infer.judging import SUPPORTED, judge, support_of
from tiny_audio.infer.longform import Window
from tiny_audio.infer.request import KEEP_ALL, Request
from tiny_audio.infer.token_head import TokenHead, load_token_head, token_log_probs
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.beam import Text
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.generation import Written


@pytest.fixture(scope="module")
def model():
    return model_of("whisper", "swiglu").eval()


def head_for(model, tokens=(3, 7, 9, 40)):
    torch.manual_seed(0)
    return TokenHead.fresh(torch.tensor(tokens), model.get_input_embeddings().weight.detach())


def test_scores_are_products_with_the_decoders_own_table(model):
    """An audio embedding that is a token's embedding is read as that token."""
    head, table = head_for(model), model.get_input_embeddings().weight.detach()
    with torch.no_grad():
        head.scale.fill_(100.0)
        log_probs = head(table[[7, 7, 40, 3]][None], table)
    assert log_probs.exp().sum(-1).tolist()[0] == pytest.approx([1.0] * 4)
    assert head.best_paths(log_probs, torch.tensor([4])) == [[7, 40, 3]]
    assert head.best_paths(log_probs, torch.tensor([2])) == [[7]]


def test_some_tokens_compete_as_they_do_among_all(model):
    head, table = head_for(model), model.get_input_embeddings().weight.detach()
    audio = torch.randn(2, 5, table.shape[1])
    every, some = (head.scores(audio, table, torch.tensor(t)) for t in ([3, 7, 9, 40], [9, 3]))
    torch.testing.assert_close(some, every[..., [0, 3, 1]])
    torch.testing.assert_close(head(audio, table), every.log_softmax(-1))


def test_it_is_read_back_for_its_model_and_refused_for_another(model, tmp_path):
    head, clip = head_for(model), toys.clips(9_000)[0]
    head.save(tmp_path / "tokens", model)
    again = load_token_head(model, tmp_path)
    assert again is not None
    assert again.tokens_V.tolist() == [3, 7, 9, 40]
    torch.testing.assert_close(
        token_log_probs(again, model, clip), token_log_probs(head, model, clip), atol=1e-2, rtol=0
    )
    other = model_of("whisper", "swiglu")
    with torch.no_grad():
        next(other.projector.parameters()).add_(0.1)
    with pytest.raises(CheckpointError, match="another encoder or projector"):
        load_token_head(other, tmp_path)


def test_a_folder_that_is_not_whole_is_refused(model, tmp_path):
    folder = tmp_path / "tokens"
    head_for(model).save(folder, model)
    stored = load_file(folder / "head.safetensors")
    save_file({k: v for k, v in stored.items() if k != "blank"}, folder / "head.safetensors")
    with pytest.raises(CheckpointError, match="other weights"):
        load_token_head(model, tmp_path)
    (folder / "config.json").write_text(json.dumps({"width": 3}))
    with pytest.raises(CheckpointError, match=r"no token head.*num_tokens"):
        load_token_head(model, tmp_path)


def test_a_head_is_bounded_by_the_decoder_before_it_is_built(model, tmp_path):
    folder = tmp_path / "tokens"
    head_for(model).save(folder, model)
    config = json.loads((folder / "config.json").read_text())
    for name in ("num_tokens", "vocabulary", "width"):
        (folder / "config.json").write_text(json.dumps(config | {name: 10**12}))
        with pytest.raises(CheckpointError, match="another decoder's vocabulary"):
            load_token_head(model, tmp_path)


def test_it_proposes_tokens_that_are_likely_somewhere(model):
    head = head_for(model)
    probabilities = torch.tensor([[0.97, 0.01, 0.005, 0.005, 0.01], [0.5, 0.3, 0.01, 0.16, 0.03]])
    assert head.likely(probabilities.log()) == [3, 9, 40]


def test_a_search_asks_it(model, tmp_path):
    """With a weight, a text of the search begins as the head likes it (the toys never stop)."""
    head = head_for(model, tokens=range(3, model.get_input_embeddings().num_embeddings))
    head.save(tmp_path / "tokens", model)
    window, transcriber = Window(0, toys.clips(9_000)[0]), Transcriber(model, checkpoint=tmp_path)
    log_probs = token_log_probs(head, model, window.samples_N)
    scored, proposed = judge(transcriber.heads, window.samples_N, 1.0)
    assert proposed == head.likely(log_probs)
    assert [type(one.module) for one in transcriber.heads] == [TokenHead]
    assert transcriber.heads[0].log_probs(window.samples_N).shape == log_probs.shape
    prompts, written = transcriber.encode([window]), []
    for weight in (0.0, 50.0):
        asked = Request(beams=4, ctc_weight=weight, min_logprob=KEEP_ALL)
        written += transcriber.write_prompts([window], *prompts, asked)
    scores = scored([Text(tokens=tuple(one.tokens[:2])) for one in written])
    assert scores[1] > scores[0]
    # Only the text that heads judged says how they support it.
    assert written[0].support is None
    assert written[1].support == pytest.approx(support_of(scored, written[1].tokens, 1.0), abs=1e-3)


@pytest.mark.parametrize(
    ("supported", "kept"), [(None, False), (SUPPORTED - 0.1, False), (SUPPORTED, True)]
)
def test_an_unsure_text_is_kept_where_heads_find_it_in_the_sound(model, supported, kept):
    transcriber, window = Transcriber(model), Window(0, toys.clips(9_000)[0])
    tokens = model.tokenizer.encode("one two", add_special_tokens=False)
    unsure = Written(tokens, [-5.0] * len(tokens), "stop", supported)
    segment = transcriber.segment(window, unsure, Request(min_logprob=-1.0))
    assert (segment.outcome, bool(segment.text)) == (("ok", True) if kept else ("no_speech", False))
    assert bool(segment.withheld) is not kept
