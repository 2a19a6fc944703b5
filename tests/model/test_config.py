"""Configuration is strict: a typo, a wrong type or a missing key never passes."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_audio.model.config import StrictConfig, fingerprint
from tiny_audio.model.configuration import AudioLMConfig, LoraConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.projector import PROJECTORS, MlpConfig, projector_config
from tiny_audio.model.qformer import QformerConfig
from tiny_audio.presets import PRESETS, preset


@dataclass(frozen=True, kw_only=True)
class Inner(StrictConfig):
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer(StrictConfig):
    name: str
    rate: float = 1.0
    kind: Literal["one", "two"] = "one"
    pair: tuple[int, int] = (1, 2)
    many: tuple[str, ...] = ()
    inner: Inner = Inner()
    maybe: int | None = None
    free: dict[str, Any] | None = None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nmae": "x"}, "no 'nmae'. Did you mean 'name'"),
        ({"name": "x", "zzzzz": 1}, "Valid: free, inner, kind"),
        ({}, "needs name"),
        ({"name": 3}, "Outer.name is 3 .int., expected str"),
        ({"name": "x", "rate": "fast"}, "Outer.rate"),
        ({"name": "x", "rate": True}, "Outer.rate"),
        ({"name": "x", "maybe": True}, "Outer.maybe"),
        ({"name": "x", "maybe": 1.5}, "Outer.maybe"),
        ({"name": "x", "kind": "three"}, "one of 'one', 'two'"),
        ({"name": "x", "pair": [1]}, "Outer.pair"),
        ({"name": "x", "pair": [1, "2"]}, "Outer.pair"),
        ({"name": "x", "many": [1]}, "Outer.many"),
        ({"name": "x", "many": "ab"}, "Outer.many"),
        ({"name": "x", "inner": {"sice": 2}}, "Inner has no 'sice'. Did you mean 'size'"),
        ({"name": "x", "inner": {"size": None}}, "Inner.size"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_place_and_its_cure(values, said):
    with pytest.raises(ConfigError, match=said):
        Outer.from_dict(values)


@settings(max_examples=20)
@given(
    rate=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    kind=st.sampled_from(["one", "two"]),
    many=st.lists(st.text()),
    maybe=st.none() | st.integers(),
    size=st.integers(),
    free=st.none() | st.dictionaries(st.text(), st.integers() | st.lists(st.booleans())),
)
def test_a_configuration_comes_back_equal_from_its_plain_values(
    rate, kind, many, maybe, size, free
):
    config = Outer(
        name="x",
        rate=rate,
        kind=kind,
        many=tuple(many),
        maybe=maybe,
        inner=Inner(size=size),
        free=free,
    )
    assert Outer.from_dict(config.to_dict()) == config


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back_equal_from_its_config_json(name, tmp_path):
    recipe = preset(name)
    config = recipe.config()
    config.save_pretrained(tmp_path)
    read = AudioLMConfig.from_pretrained(tmp_path)
    assert read.encoder == recipe.encoder
    assert read.projector == recipe.projector
    assert read.language_model == recipe.decoder
    assert read.prompt == recipe.prompt
    assert read.to_dict().keys() == AudioLMConfig.from_dict(read.to_dict()).to_dict().keys()


def test_typed_views_follow_the_plain_values_they_are_made_from():
    config = preset("mufun").config()
    assert config.positions_for(480_000) == 600
    assert config.text_config.hidden_size == 4096
    config.audio_config = {**config.audio_config, "pool": [5, 1]}
    assert config.positions_for(480_000) == 300
    config.decoder_config = {**config.decoder_config, "architecture": toys.DECODERS["llama"]}
    assert config.llm_dim == config.get_text_config().hidden_size == 32
    config.lora_config = {"encoder": {"rank": 3, "targets": ["q_proj"]}}
    assert config.lora == {"encoder": LoraConfig(rank=3, targets=("q_proj",))}
    assert "encoder" not in config.to_dict()


def test_an_unknown_projector_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no 'swigul'. Did you mean 'swiglu'"):
        projector_config({"kind": "swigul"})
    with pytest.raises(ConfigError, match="no 'None'"):
        projector_config({})


@pytest.mark.parametrize("kind", PROJECTORS)
def test_every_projector_s_configuration_comes_back_equal(kind):
    assert projector_config(toys.PROJECTORS[kind].to_dict()) == toys.PROJECTORS[kind]


def test_sizes_must_be_positive_and_divide():
    with pytest.raises(ConfigError, match="k, hidden must be greater than 0"):
        MlpConfig(k=0, hidden=-1)
    with pytest.raises(ConfigError, match="multiple of heads"):
        QformerConfig(hidden=30, heads=4)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("whisper", {"layers": (3,)}, r"layers=\[3\]: .* 0…2"),
        ("whisper", {"layers": (-2,)}, r"layers=\[-2\]"),
        ("whisper", {"layers": ()}, "layers is empty"),
        ("whisper", {"pool": (2, 5)}, "pool"),
        ("whisper", {"pool": (5, 0)}, "pool"),
        ("hubert", {"window": "full"}, "window='full' is Whisper's"),
        ("whisper", {"window": "ful"}, "one of 'full', 'true_length'"),
    ],
)
def test_an_encoder_that_cannot_work_is_refused(name, changes, said):
    with pytest.raises(ConfigError, match=said):
        toys.encoder_config(name, **changes)


def test_encoders_that_are_unknown_or_leak_padding_are_refused():
    with pytest.raises(ConfigError, match=r"no 'wav2vec'. Did you mean 'wav2vec2'"):
        EncoderConfig(architecture={"model_type": "wav2vec"})
    with pytest.raises(ConfigError, match="leaks padding"):
        EncoderConfig(architecture={"model_type": "hubert", "conv_pos_batch_norm": True})
