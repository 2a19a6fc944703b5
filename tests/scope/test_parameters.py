"""`tiny-audio params` and `projectors`: rows against the modules, and what is refused."""

import pytest
import torch
import toys
from typed import typed

from tiny_audio import load
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.projector import PROJECTORS, SwigluConfig
from tiny_audio.scope.plan.parameters import components, true_scale
from tiny_audio.scope.plan.projectors import compare, describe, kinds, parse


def said(*arguments: str) -> str:
    done = typed(*arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_memory_is_that_of_the_tensors():
    nano = {row.name: row for row in components(true_scale("nano"))}
    real = load("nano", dtype=torch.bfloat16)
    held = sum(p.numel() * p.element_size() for p in real.parameters())
    assert nano["all"].num_bytes == held
    assert nano["projector"].trainable_share == 1


@pytest.mark.slow
def test_params_prints_every_digit_in_80_columns():
    done = typed("params", "whisper_swiglu_smollm3", env={"COLUMNS": "80"})
    assert "3,075,098,624" in done.output
    assert "121,643,264" in done.output


def test_an_unknown_preset_is_refused():
    done = typed("params", "nanno")
    assert done.exit_code == 2
    assert "Did you mean 'nano'" in done.output


def test_projectors_compares_every_kind():
    assert {config.kind for config in kinds()} == set(PROJECTORS)
    printed = said("projectors")
    assert all(kind in printed for kind in PROJECTORS)
    assert "184,561,664" in printed


def test_projectors_takes_any_configuration():
    printed = said("projectors", "kind=swiglu,k=5,hidden=8192", "--decoder-dim", "4096")
    assert "138,422,528" in printed


@pytest.mark.parametrize("name", toys.PROJECTORS)
def test_a_written_configuration_is_read_back(name):
    config = toys.PROJECTORS[name]
    assert parse(",".join(describe(config).replace(name, f"kind={name}", 1).split())) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind=swiglo", "Did you mean 'swiglu'"),
        ("kind=swiglu,kk=5", "Did you mean 'k'"),
        ("kind=swiglu,k=five", "must be a number"),
        ("swiglu", "is no projector"),
    ],
)
def test_a_wrong_configuration_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_a_clip_shorter_than_a_position_is_refused():
    with pytest.raises(ConfigError, match="do not fill one position"):
        compare([SwigluConfig(k=8)], 16, 16, 0.1)
