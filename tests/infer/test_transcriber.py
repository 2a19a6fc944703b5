"""Whole files: windows cover everything, batches change nothing, endings are reported."""

import pytest
import soundfile
import torch
import toys
from jiwer import wer

from tiny_audio.infer.jobs import Failed, batches
from tiny_audio.infer.longform import Window
from tiny_audio.infer.results import Segment, Transcript
from tiny_audio.infer.transcriber import Request, Transcriber
from tiny_audio.model.audio import Audio
from tiny_audio.model.errors import AudioError, ConfigError, PromptError
from tiny_audio.model.generation import Written
from tiny_audio.model.prompt import transcription_turns

RATE = 16_000


@pytest.fixture(scope="module")
def transcriber():
    torch.manual_seed(0)  # of the fresh projector
    return Transcriber(toys.toy_preset("nano").build())


@pytest.mark.slow
def test_segments_of_a_long_file_follow_each_other_to_its_end(transcriber):
    limit = transcriber.model.config.encoder.max_samples
    clip = toys.clips(limit * 2 + 12_345)[0]
    transcript = transcriber.transcribe(clip, sampling_rate=RATE)
    ends = [segment.end_s for segment in transcript.segments]
    assert [segment.start_s for segment in transcript.segments] == [0.0, *ends[:-1]]
    assert transcript.duration_s == pytest.approx(len(clip) / RATE)


def test_whole_audio_is_cut_at_the_limit_only(transcriber):
    said = toys.clips(16_000)[0]
    paused = torch.cat([said, torch.zeros(10_000), said])
    limit = transcriber.model.config.encoder.max_samples
    long = torch.cat([paused] * (limit // len(paused) + 1))
    for clip, number in ((paused, 1), (long, 2)):
        found = list(transcriber.windows(clip, RATE, [], whole=True))
        assert len(found) == number < len(list(transcriber.windows(clip, RATE, [])))
        assert max(len(window.samples_N) for window in found) <= limit
        assert found[-1].start + len(found[-1].samples_N) == len(clip)


def test_a_random_model_that_does_not_stop_is_said_to_be_cut_off_or_looping(transcriber):
    transcript = transcriber.transcribe(toys.clips(16_000)[0], sampling_rate=RATE)
    assert not transcript.complete
    assert transcript.outcome in ("cut_off", "loop")


def test_an_empty_source_is_an_error_not_an_empty_text(transcriber):
    with pytest.raises(AudioError):
        transcriber.transcribe(torch.empty(0), sampling_rate=RATE)


def test_outcome_tells_the_worst_and_no_speech_apart():
    def transcript(*outcomes):
        said = {"ok": "a", "loop": "b", "cut_off": "c", "no_speech": ""}
        segments = (Segment(0.0, 1.0, said[o], o, None) for o in outcomes)
        return Transcript("x", 1.0, tuple(segments))

    assert transcript("no_speech").outcome == "no_speech"
    assert transcript("no_speech", "ok").outcome == "ok"
    assert transcript("ok", "cut_off", "ok").outcome == "cut_off"
    assert transcript("cut_off", "loop").outcome == "loop"
    assert transcript("ok", "no_speech").complete
    assert not transcript("loop").complete


def test_nano_writes_its_sample_clips(nano):
    samples = toys.samples()
    assert samples, "samples/manifest.jsonl lists no clip"
    for path, text in samples:
        assert nano.transcribe(path).text == text


@pytest.mark.slow
def test_nano_writes_a_long_file_in_order(nano):
    """Sample clips one after the other with pauses: every sentence in its place and in a window of
    its own (21 % WER when windows were filled).
    """
    samples = toys.samples()
    clips = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path, _ in samples]
    pause = torch.zeros(int(0.8 * RATE))
    joined = torch.cat([part for clip in clips for part in (clip, pause)])
    transcript = nano.transcribe(joined, sampling_rate=RATE)
    assert len(transcript.segments) > 1
    said = " ".join(text for _, text in samples)
    assert wer(said, transcript.text) <= 0.05
    assert transcript.complete


def test_files_share_batches_and_come_in_order_and_a_bad_one_fails_alone(transcriber, tmp_path):
    clips = toys.clips(20_000, 9_000, 30_000)
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip.numpy(), RATE, "FLOAT")
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    told = []
    made = list(
        transcriber.transcribe_many(
            [paths[0], bad, paths[1], tmp_path / "missing.wav", paths[2]],
            on_progress=lambda source, seconds: told.append((source, seconds)),
        )
    )
    assert [isinstance(one, Failed) for one in made] == [False, True, False, True, False]
    assert made[1].source == bad
    assert isinstance(made[1].error, AudioError)
    alone = [transcriber.transcribe(path) for path in paths]
    assert [one.text for one in made if not isinstance(one, Failed)] == [a.text for a in alone]
    assert told == [(path, len(clip) / RATE) for path, clip in zip(paths, clips, strict=True)]


def test_many_short_files_are_written_before_the_last_is_read(transcriber):
    """The pool is bounded: 10,000 files are not held until the end."""
    read = []

    def sources():
        for number in range(70):
            read.append(number)
            yield Audio(torch.zeros(1_600), RATE)

    first = next(iter(transcriber.transcribe_many(sources())))
    assert first.outcome == "no_speech"
    assert len(read) == 32


def test_batches_hold_every_window_once_and_no_more_than_their_seconds():
    lengths = [RATE * n for n in (1, 30, 2, 29, 28, 3, 31, 400)]
    windows = [Window(0, torch.empty(length)) for length in lengths]
    made = list(batches(windows))
    assert sorted(number for batch in made for number in batch) == list(range(len(lengths)))
    for batch in made:
        longest = max(lengths[number] for number in batch)
        assert len(batch) == 1 or longest * len(batch) <= 120 * RATE


def test_digital_silence_needs_no_model(transcriber):
    """A random model writes into anything; what holds two bits at most never reaches it."""
    quiet = 3e-5 * torch.randn(RATE).sign()
    assert transcriber.transcribe(quiet, sampling_rate=RATE).outcome == "no_speech"
    assert transcriber.transcribe(quiet * 100, sampling_rate=RATE).outcome != "no_speech"


def test_work_is_timed_and_words_have_confidences(transcriber):
    transcript = transcriber.transcribe(toys.clips(16_000)[0], sampling_rate=RATE)
    timings = transcript.timings
    assert min(timings.decode_s, timings.encode_s, timings.write_s) > 0
    assert transcript.real_time_factor == pytest.approx(timings.total_s)
    assert " ".join(word.text for word in transcript.words).split() == transcript.text.split()
    assert all(0 < word.confidence <= 1 for word in transcript.words)
    assert transcript.words[0].start_s is None


def test_a_loop_is_cut_to_what_was_said_before_it(nano):
    tokens = nano.model.tokenizer.encode("turn on the light" + " zero" * 16)
    window = Window(0, torch.ones(RATE))
    written = Written(tokens, [-0.1] * len(tokens), "loop")
    segment = nano.segment(window, written)
    assert (segment.text, segment.outcome) == ("turn on the light", "loop")


def test_what_the_decoder_hardly_believes_is_no_speech_unless_all_is_kept(nano):
    tokens = nano.model.tokenizer.encode("turn on the light")
    window, written = Window(0, torch.ones(RATE)), Written(tokens, [-1.2] * len(tokens), "stop")
    assert nano.segment(window, written).text == "turn on the light"
    doubted = nano.segment(window, written, Request())
    assert (doubted.text, doubted.words, doubted.outcome) == ("", (), "no_speech")
    assert doubted.mean_logprob == pytest.approx(-1.2)
    asked = nano.segment(window, written, Request(prompt="Describe this sound."))
    assert asked.text == "turn on the light"


def test_an_empty_prompt_asks_what_the_model_was_trained_with(transcriber):
    config = transcriber.model.config.prompt
    assert Request(prompt="") == Request()
    assert transcription_turns(config, "") == transcription_turns(config)


def test_a_prompt_beyond_the_decoders_positions_is_refused_with_both_counts(transcriber):
    """16 kB of it took gigabytes, and the text was empty."""
    window = Window(0, torch.randn(16_000))
    asked = " ".join(["twelve"] * 4_000)
    with pytest.raises(
        PromptError, match=r"takes [\d,]+ tokens and its audio [\d,]+ positions.*2,048"
    ):
        transcriber.transcribe_windows([window], asked)
    with pytest.raises(PromptError, match="2,048"):
        transcriber.transcribe(window.samples_N, sampling_rate=16_000, prompt=asked)


def test_a_name_in_place_of_a_model_is_refused_with_the_call_that_loads_it():
    with pytest.raises(ConfigError, match=r"Write Transcriber.from_pretrained\('nano'\)"):
        Transcriber("nano")
