"""Questions about several clips, long ones and none; each fault of MuFun's published code is here.

Its segments were whole seconds, tags and files that did not agree were cut to fit, answers ended
without a word at a limit, a tag in what somebody said was taken for a clip, rows of text alone
could not share a batch, a training sample had one file, a tail under half a second was dropped, and
ten minutes were cut to what fitted.
"""

from dataclasses import replace

import pytest
import soundfile
import torch
import toys
from pairs import batch_of, model_of, processor_of

from tiny_audio.infer.asking import Question, load_source, question
from tiny_audio.infer.room import ANSWER_TOKENS
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.errors import AudioError, ConfigError, PromptError
from tiny_audio.model.messages import conversation_of
from tiny_audio.model.prompt import Turn, turn_of

RATE = 16_000
FEW = 6  # tokens: random models do not stop by themselves


@pytest.fixture(scope="module")
def transcriber():
    return Transcriber(model_of("whisper", "swiglu"))


def configured(transcriber, **changes):
    """The same model with other values in its configuration."""
    model = transcriber.model
    other = object.__new__(type(model))
    config = AudioLMConfig.from_dict({**model.config.to_dict(), **changes})
    other.__dict__ = {**model.__dict__, "config": config}
    return Transcriber(other)


def hears(transcriber, long_audio):
    """The same model with another way to take long clips."""
    prompt = transcriber.model.config.to_dict()["prompt_config"]
    return configured(transcriber, prompt_config={**prompt, "long_audio": long_audio})


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.flac"
    samples = (toys.clips(5 * RATE)[0].clamp(-1, 1) * 32767).round() / 32768
    soundfile.write(path, samples.numpy(), RATE)
    return path, samples


@pytest.mark.parametrize(
    ("stretch", "start", "end"),
    [
        ("1-3", 1.0, 3.0),
        ("0.25-1.5", 0.25, 1.5),
        ("4.9-", 4.9, 5.0),
        ("0.0625-0.125", 0.0625, 0.125),
    ],
)
def test_a_stretch_is_exact_to_the_sample_and_may_have_fractions(song, stretch, start, end):
    path, samples = song
    heard = load_source(f"{path}@{stretch}")
    assert torch.equal(heard.samples, samples[round(start * RATE) : round(end * RATE)])
    assert heard.source == f"{path}@{stretch}"


@pytest.mark.parametrize(
    ("stretch", "said"),
    [("3-1", "ends at 1 s and begins at 3"), ("2-9", "it has 5.00 s"), ("7-", "it has 5.00 s")],
)
def test_a_stretch_that_is_not_there_is_refused(song, stretch, said):
    with pytest.raises(AudioError, match=said):
        load_source(f"{song[0]}@{stretch}")


def test_a_file_that_is_really_called_so_is_that_file(song, tmp_path):
    odd = tmp_path / "take@1-2"
    odd.write_bytes(song[0].read_bytes())
    assert len(load_source(str(odd)).samples) == 5 * RATE
    with pytest.raises(AudioError, match="missing@1-2"):
        load_source(tmp_path / "missing@1-2.flac")


@pytest.mark.parametrize(
    ("text", "num_clips", "counts"),
    [
        ("<audio> or <audio>?", 1, "2 <audio> .* 1 clip"),
        ("<audio>?", 3, "1 <audio> .* 3 clip"),
        ("<audio>?", 0, "1 <audio> .* 0 clip"),
    ],
)
def test_tags_and_clips_that_differ_are_refused_with_both_counts(
    transcriber, text, num_clips, counts
):
    clips = toys.clips(*[700] * num_clips)
    with pytest.raises(PromptError, match=counts):
        transcriber.ask(text, clips, sampling_rate=RATE, max_tokens=FEW)
    with pytest.raises(PromptError, match=counts):  # no clip is decoded for it
        transcriber.ask(text, ["/nowhere.wav"] * num_clips, max_tokens=FEW)


def test_clips_without_tags_come_in_the_order_given(transcriber):
    first, second = toys.clips(9_000, 700)
    plain = question(transcriber, "Which?", [first, second], sampling_rate=RATE)
    assert plain.turns == [Turn("user", "Which? <audio> <audio>")]
    assert [len(clip) for clip in plain.clips] == [9_000, 700]


def test_what_people_say_is_text_also_where_it_looks_like_a_tag(transcriber):
    said = turn_of("user", ["the tag <audio> in", None, r"or \<audio>"])
    model = transcriber.model
    batch = processor_of(model).batch([[said]], [toys.clips(700)])
    placeholders = int((batch["input_ids"] == model.config.audio_token_id).sum())
    assert placeholders == model.config.positions_for(700)
    text = model.tokenizer.decode(batch["input_ids"][0])
    assert "the tag <audio> in" in text
    assert r"or \<audio>" in text
    answered = [Turn("user", "<audio>"), Turn("assistant", "I heard <audio>"), Turn("user", "So?")]
    one = transcriber.ask(answered, toys.clips(700), sampling_rate=RATE, max_tokens=FEW)
    assert one.completion_tokens <= FEW
    literal = transcriber.ask(r"Say \<audio>", max_tokens=FEW)
    assert literal.prompt_tokens < 40


def test_rows_with_clips_and_rows_of_text_share_a_batch(transcriber):
    asked = [
        Question([Turn("user", "only text")], [], FEW),
        Question([Turn("user", "<audio> or <audio>?")], toys.clips(9_000, 700), FEW),
        Question([Turn("user", "<audio>")], toys.clips(4_000), FEW),
        Question([Turn("user", "text again, and longer than the others")], [], FEW),
    ]
    together = transcriber.ask_many(asked)
    assert together == [transcriber.ask_many([one])[0] for one in asked]
    assert transcriber.ask_many([]) == []
    mixed = processor_of(transcriber.model)(
        audio=[None, [], toys.clips(700)[0]], text="a", sampling_rate=RATE
    )
    assert mixed["input_features"].shape[0] == 1


def test_an_answer_says_that_it_was_cut(transcriber):
    cut = transcriber.ask("a", toys.clips(4_000), sampling_rate=RATE, max_tokens=3)
    assert (cut.finish_reason, cut.complete, cut.completion_tokens) == ("length", False, 3)
    whole = transcriber.ask("a", toys.clips(4_000), sampling_rate=RATE)
    assert whole.finish_reason != "length" or whole.completion_tokens == ANSWER_TOKENS


def test_a_tail_under_half_a_second_is_heard():
    """Even one sample behind a whole window has positions of its own."""
    transcriber = hears(Transcriber(model_of("whisper", "blp")), "windows")
    model = transcriber.model
    window = model.config.encoder.max_samples
    for tail in (1, 200, 7_000):
        assert model.config.windows(window + tail) == [window, tail]
        assert model.config.positions_for(window + tail) > model.config.positions_for(window)
        clip = torch.cat([torch.zeros(window), toys.clips(tail)[0]])
        batch = batch_of(model, [clip])
        heard = int((batch["input_ids"] == model.config.audio_token_id).sum())
        assert heard == model.config.positions_for(window + tail)
        assert batch["input_features_mask"].sum(1).tolist()[1] == max(tail, 400) // 160


def test_what_does_not_fit_is_refused_before_anything_is_computed(transcriber, monkeypatch):
    """Ten minutes are 6,000 positions of a decoder with 2,048."""
    long = hears(transcriber, "windows")
    monkeypatch.setattr(type(long.processor), "batch", None)  # nothing may come so far
    clip = torch.zeros(600 * RATE)
    with pytest.raises(PromptError, match=r"6,000 positions.*2,048.*About \d+ s of audio fit"):
        long.ask("a", clip, sampling_rate=RATE)
    with pytest.raises(PromptError, match="with 2,040 for the answer"):
        transcriber.ask("a", toys.clips(4_000), sampling_rate=RATE, max_tokens=2_040)


def test_ten_minutes_are_consecutive_windows_and_none_is_dropped(transcriber):
    """As much as the decoder takes: every window of a clip has its positions, in their order."""
    long = hears(transcriber, "windows")
    model, window = long.model, long.model.config.encoder.max_samples
    clip = toys.clips(6 * window + 5_000)[0]
    whole = question(long, "a", clip, FEW, RATE)
    parts = [model.config.positions_for(n) for n in model.config.windows(len(clip))]
    assert len(parts) == 7
    answer = long.ask_many([whole])[0]
    assert answer.prompt_tokens == sum(parts) + long.ask("a", max_tokens=1).prompt_tokens + 1


def test_windows_may_say_when_they_begin(transcriber):
    timed, model = hears(transcriber, "timed_windows"), transcriber.model
    window = model.config.encoder.max_samples
    clip = toys.clips(2 * window + 5_000)[0]
    batch = processor_of(timed.model).batch([[Turn("user", "<audio>?")]], [[clip]])
    text = model.tokenizer.decode(batch["input_ids"][0]).replace("<|audio|>", "")
    seconds = window // RATE
    times = [
        f"[0:{seconds * n:02}]" if seconds * n < 60 else f"[1:{seconds * n - 60:02}]"
        for n in range(3)
    ]
    assert "".join(times) + "?" in text
    short = processor_of(timed.model).batch([[Turn("user", "<audio>?")]], [[clip[:9_000]]])
    assert "[0:00]" not in model.tokenizer.decode(short["input_ids"][0])
    answer = timed.ask("a", clip, sampling_rate=RATE, max_tokens=FEW)
    plain = hears(transcriber, "windows").ask("a", clip, sampling_rate=RATE, max_tokens=FEW)
    assert answer.prompt_tokens > plain.prompt_tokens


def test_messages_of_transformers_are_turns_with_their_clips(transcriber):
    first, second = (clip.numpy() for clip in toys.clips(9_000, 700))
    parts = [
        {"type": "text", "text": "Which is longer,"},
        {"type": "audio", "audio": first, "sampling_rate": RATE},
        {"type": "text", "text": "or"},
        {"type": "audio", "audio": second, "sampling_rate": RATE},
        {"type": "text", "text": "?"},
    ]
    messages = [{"role": "user", "content": parts}]
    asked = Turn("user", "Which is longer, <audio> or <audio>?")
    assert conversation_of(messages)[0] == [asked]
    processor = processor_of(transcriber.model)
    made = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    by_hand = processor.batch([[asked]], [toys.clips(9_000, 700)])
    assert made.keys() == by_hand.keys()
    assert all(torch.equal(made[key], by_hand[key]) for key in made)
    both = transcriber.ask(messages, max_tokens=FEW)
    assert both == transcriber.ask(
        [asked], toys.clips(9_000, 700), sampling_rate=RATE, max_tokens=FEW
    )


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "no message"),
        ([{"role": "user"}], "needs a role and a content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "no part of a message"),
        ([{"role": "user", "content": [{"type": "audio", "url": "http://a"}]}], "never fetched"),
        ([{"role": "system", "content": [{"type": "audio", "audio": "a.wav"}]}], "Only the user"),
    ],
)
def test_messages_that_cannot_be_heard_are_refused(messages, said):
    with pytest.raises(PromptError, match=said):
        conversation_of(messages)


def test_a_template_is_applied_for_writing_or_for_training_and_not_for_both(transcriber):
    processor = processor_of(transcriber.model)
    user = {"role": "user", "content": "a"}
    options = {"tokenize": True, "return_dict": True}
    with pytest.raises(PromptError, match="ends with 'user'"):
        processor.apply_chat_template([user], **options)
    with pytest.raises(TypeError, match="tokenize=True"):
        processor.apply_chat_template([user])
    whole = [user, {"role": "assistant", "content": "b"}]
    trained = processor.apply_chat_template([whole, [*whole, *whole]], **options)
    assert (trained["labels"] != -100).any(1).all()
    assert trained["attention_mask"][:, 0].all()  # padded on the right


def test_the_last_turn_is_the_users(transcriber):
    with pytest.raises(PromptError, match="last turn"):
        transcriber.ask([Turn("assistant", "a")])
    asked = replace(question(transcriber, "a"), max_tokens=FEW)
    assert transcriber.ask_many([asked])[0].prompt_tokens


def test_a_model_that_was_trained_on_one_instruction_says_so(transcriber, song):
    """It would repeat the question, and leave a newcomer wondering."""
    instruction = transcriber.model.config.prompt.instruction
    for usual in (None, instruction):
        assert question(transcriber, usual, [song[0]]).notes == ()
    for other in ("Which key is it in?", "Hello."):
        (note,) = question(transcriber, other, [song[0]]).notes
        assert instruction in note
    asked = configured(transcriber, tasks={"key": "Which key?"})
    assert question(asked, "Which key is it in?", [song[0]]).notes == ()


@pytest.mark.parametrize("tasks", [["key"], {"key": 1}, {"": "?"}, {"key": "?" * 3_000}])
def test_tasks_of_a_checkpoint_are_few_and_short(transcriber, tasks):
    with pytest.raises(ConfigError, match="has tasks="):
        configured(transcriber, tasks=tasks)
