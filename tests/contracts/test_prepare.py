"""There is one way to prompt embeddings; from samples and from frames it gives the same."""

import ast
from pathlib import Path

import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from pairs import batch_of, features_of, model_of, processor_of

import tiny_audio
from tiny_audio.data.examples import Example
from tiny_audio.data.mixture import Visit
from tiny_audio.data.sounds import BytesSound
from tiny_audio.infer.longform import Window
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.prepare import LIKENESS, alike, embed_by_length, prepare
from tiny_audio.model.prompt import transcription_turns
from tiny_audio.scope.trace.path import trace
from tiny_audio.train.batch import Collator
from tiny_audio.train.task import Listening

PACKAGE = Path(tiny_audio.__file__).parent
ENCODERS = ["whisper", "hubert"]
CLIPS = (9_000, 400, 23_456, 8_500)


def valid(embeds_BLD, mask_BL):
    """The rows that are no padding, of all prompts one after another."""
    return embeds_BLD[mask_BL.bool()]


@pytest.fixture(params=ENCODERS)
def model(request):
    return model_of(request.param, "swiglu")


@pytest.fixture
def prepared(model):
    turns = [transcription_turns(model.config.prompt)] * len(CLIPS)
    with torch.no_grad():
        return prepare(model, turns, [[clip] for clip in toys.clips(*CLIPS)])


def test_transcribing_prepares_its_windows(model, prepared):
    windows = [Window(0, clip) for clip in toys.clips(*CLIPS)]
    for ours, theirs in zip(Transcriber(model).encode(windows), prepared, strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_frames_prepare_what_their_samples_prepare(model, prepared):
    turns = [transcription_turns(model.config.prompt)] * len(CLIPS)
    frames = [[model.encode(clip, 16_000)[0]] for clip in toys.clips(*CLIPS)]
    embeds_BLD, mask_BL = prepare(model, turns, frames)
    assert torch.equal(mask_BL, prepared[1])
    torch.testing.assert_close(valid(embeds_BLD, mask_BL), valid(*prepared), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_training_embeds_the_prompt_that_inference_prepares(model, prepared):
    examples = [
        Example(f"clips:{n}", "one two", 1.0, BytesSound("", b"")) for n in range(len(CLIPS))
    ]
    visits = [Visit(example, 0, 0) for example in examples]
    batch = Collator(model, few_shapes=True).collate(toys.clips(*CLIPS), visits)
    trained_BLD = Listening(model).embed(batch)
    for trained, embeds, mask in zip(trained_BLD, *prepared, strict=True):
        asked = embeds[mask.bool()]
        torch.testing.assert_close(trained[: len(asked)], asked, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_forward_of_transformers_reads_what_is_prepared(model, prepared):
    batch = batch_of(model, toys.clips(*CLIPS))
    embeds_BLD, mask_BL = prepared
    assert torch.equal(batch["attention_mask"], mask_BL)
    theirs = model(**batch).logits
    ours = model(inputs_embeds=embeds_BLD, attention_mask=mask_BL).logits
    torch.testing.assert_close(valid(ours, mask_BL), valid(theirs, mask_BL), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_text_without_audio_is_looked_up(model):
    turns = transcription_turns(model.config.prompt, "one", 0)
    embeds_BLD, mask_BL = prepare(model, [turns], [[]])
    ids_BL = processor_of(model).batch([turns], [[]])["input_ids"]
    assert torch.equal(embeds_BLD, model.get_input_embeddings()(ids_BL))
    assert mask_BL.all()


def test_a_trace_shows_the_prompt_that_is_transcribed_also_with_the_times_of_windows():
    model = toys.toy_preset("whisper_tiny").build()
    values = model.config.to_dict()
    values["prompt_config"] = {**values["prompt_config"], "long_audio": "timed_windows"}
    model.config = AudioLMConfig.from_dict(values)
    clip = toys.clips(model.config.encoder.max_samples + 5_000)[0]
    [answer] = trace(model, clip, sampling_rate=16_000).answers
    ids = processor_of(model).batch([transcription_turns(model.config.prompt)], [[clip]])
    assert len(answer.slots) == 2
    asked = ids["input_ids"][0].tolist()
    assert list(answer.ids[: len(asked)]) == asked


# Who may put prompts together -----------------------------------------------------------------


def calls(name: str) -> set[str]:
    """The files of the package in which a function or method of this name is called."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                if getattr(called, "attr", getattr(called, "id", "")) == name:
                    found.add(path.relative_to(PACKAGE).as_posix())
    return found


def test_who_renders_a_prompt_prepares_it_or_counts_its_tokens():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("prompt")
        if "render" in {alias.name for alias in node.names}
    }
    # vLLM asks for a prompt with one placeholder, and lays it out by itself.
    by_vllm = {"scale/vllm_model.py"}
    assert found == {"model/prepare.py", "infer/room.py", "train/data.py"} | by_vllm


def test_nothing_else_puts_prompt_embeddings_together():
    assert calls("fuse") == {"model/modeling.py"}
    assert calls("pad_prompts") == {"model/prepare.py"}
    assert calls("lay_out") == {
        "model/prepare.py",
        "model/processing.py",  # transformers' batch
        "model/identity.py",  # golden vectors
        "train/batch.py",  # a micro-batch
    }


# Groups of like length ------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["whisper", "hubert", "hubert_large"])
def test_groups_give_what_one_batch_gives(encoder):
    model = model_of(encoder, "swiglu")
    heard = features_of(batch_of(model, toys.clips(9_000, 400, 23_456, 8_500, 130, 22_000)))
    assert len(list(alike(heard.lengths_B, 10**9))) == 3
    with torch.no_grad():
        ours, theirs = embed_by_length(model, heard), model.embed_audio(heard)
    torch.testing.assert_close(ours.audio_BPD, theirs.audio_BPD, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.lengths_B, theirs.lengths_B)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40), st.integers(1, 9000))
def test_every_clip_is_in_one_group_and_groups_are_small_and_hold_little_padding(lengths, most):
    groups = [rows.tolist() for rows in alike(torch.tensor(lengths), most)]
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        members = [lengths[row] for row in rows]
        assert min(members) >= LIKENESS * max(members)
        assert len(members) == 1 or len(members) * max(members) <= most
