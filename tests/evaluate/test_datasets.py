"""Names lead to clips: streamed from datasets made here in the layout that the Hub's have."""

from dataclasses import replace

import datasets as library
import pytest
from data.broken import encoded, tone

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.stream import ExampleStream
from tiny_audio.evaluate.datasets import DATASETS, HELD_OUT, dataset, lines
from tiny_audio.evaluate.evaluator import RunConfig, evaluate
from tiny_audio.evaluate.predictions import read_predictions
from tiny_audio.evaluate.systems import Answer
from tiny_audio.model.errors import ConfigError


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder for every dataset id: a card that names the configs, and parquet with bytes."""
    root = tmp_path_factory.mktemp("hub")
    cards: dict[str, dict[str, dict[str, str]]] = {}
    for known in DATASETS.values():
        if not known.source.streaming:
            continue
        source = known.source
        name, config = source.path.removeprefix("hf:").rsplit(":", 1)
        folder = root / name / config
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                source.audio: {"bytes": encoded(tone(0.3 + n / 10, 300 + n)), "path": f"{n}.flac"},
                source.text: f"{config} {source.split} {n}",
                source.speaker: f"s{n % 2}",
                "audio_length_s": 0.3,
            }
            for n in range(3)
        ]
        made = library.Dataset.from_list(rows).cast_column(source.audio, library.Audio())
        made.to_parquet(folder / f"{source.split}-00000-of-00001.parquet")
        parts = cards.setdefault(name, {}).setdefault(config, {})
        parts[source.split] = f"{config}/{source.split}-*"
    for name, configs in cards.items():
        card = "---\nconfigs:\n"
        for config, parts in configs.items():
            card += f"- config_name: {config}\n  data_files:\n"
            card += "".join(f"  - split: {s}\n    path: {p}\n" for s, p in parts.items())
        (root / name / "README.md").write_text(card + "---\n")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def here(source, hub):
    """The same source, where the folder stands for the Hub."""
    return replace(source, path=source.path.replace("hf:", f"hf:{hub}/"))


@pytest.mark.parametrize("name", [n for n, k in DATASETS.items() if k.source.streaming])
def test_every_name_streams_its_split_without_decoding(hub, name):
    source, dropped = dataset(name), Dropped()
    stream = ExampleStream(name, here(source, hub), Limits(), dropped)
    examples, state = stream.take(2)
    rest, end = stream.take(5, state)
    assert [e.text for e in examples + rest] == [
        f"{source.path.rsplit(':', 1)[1]} {source.split} {n}" for n in range(3)
    ]
    assert end is None
    assert not dropped.places
    assert [e.speaker for e in examples] == ["s0", "s1"]
    assert len(examples[1].sound.samples()) == round(examples[1].duration_s * 16_000)


class Silent:
    """A system that hears nothing, to see which clips reach it."""

    def about(self):
        return {"name": "silent", "device": "cpu"}

    def answer(self, clips, asked):
        return [Answer("", "no_speech") for _ in clips]


@pytest.mark.parametrize("condition", ["", "noise:white@10dB"])
def test_a_stream_is_evaluated_clip_by_clip(hub, tmp_path, condition):
    source = here(dataset("loquacious"), hub)
    config = RunConfig(name="loquacious", source=source, normalizer="none", condition=condition)
    result, folder = evaluate(Silent(), config, tmp_path / "run")
    assert result["scores"]["wer"]["rate"] == 1
    rows = read_predictions(folder / "predictions.jsonl")
    assert sorted(row.ref for row in rows) == [f"small test {n}" for n in range(3)]
    assert {row.columns.get("condition", "") for row in rows} == {condition}
    assert evaluate(Silent(), config, folder)[0] == result


def test_a_dataset_without_a_name_has_its_split_behind_an_at(hub):
    folder = hub / "speechbrain" / "LoquaciousSet" / "small"
    assert dataset("hf:a/b:c@dev") == SourceConfig(path="hf:a/b:c", split="dev", streaming=True)
    assert dataset("hf:a/b").split == "test"
    assert dataset(f"{folder}@dev") == SourceConfig(path=str(folder), split="dev")
    assert dataset(str(folder)).split == "test"


def test_the_embedded_clips_are_a_dataset():
    examples = read_source("quickstart", dataset("quickstart"), Limits(), Dropped())
    assert len(examples) == 300
    assert len({e.speaker for e in examples}) == 44
    assert dataset(str(HELD_OUT)) == dataset("quickstart")


def test_what_is_neither_name_nor_path_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'tedlium'"):
        dataset("tedlum")
    with pytest.raises(ConfigError, match="tiny-audio datasets"):
        dataset("no/such/manifest.jsonl")


def test_every_dataset_says_its_licence():
    assert all(all(line) for line in lines())
    assert {"ami", "earnings22", "gigaspeech", "spgispeech", "tedlium", "voxpopuli"} < set(DATASETS)
