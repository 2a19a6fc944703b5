"""What a stage trains: the table's numbers, adapters from stage to stage, rates by part."""

import copy

import pytest
import torch
from toy_runs import LORA, STAGES, toy_model, visits

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.train import stages
from tiny_audio.train.batch import Collator
from tiny_audio.train.loop import Loop, LoopConfig
from tiny_audio.train.optim import adamw
from tiny_audio.train.recipe import Stage
from tiny_audio.train.task import Listening

PROJECTOR, BOTH = STAGES["projector"], STAGES["lora"]
ADAPTERS = Stage(
    steps=3,
    learning_rate={"encoder": 1e-3, "decoder": 1e-3},
    lora={"encoder": LORA, "decoder": LORA},
)
# LORA is of rank 4 on q_proj and v_proj, two layers of each part. The encoder's are 32 → 32; the
# decoder's q is 32 → 32, its v 32 → 16 (two of four heads).
ENCODER_LORA = 2 * 2 * 4 * (32 + 32)
DECODER_LORA = 2 * 4 * ((32 + 32) + (32 + 16))


def count(module):
    return sum(p.numel() for p in module.parameters())


def state(model, part):
    """Values of a part's parameters, by name."""
    prefix = stages.PREFIXES[part]
    named = model.named_parameters()
    return {n: p.detach().clone() for n, p in named if n.startswith(prefix)}


def changed(before, model, part):
    after = state(model, part)
    return {n for n in after if n in before and not torch.equal(before[n], after[n])}


def train(model, stage, folder):
    """Three steps of a stage."""
    stages.begin(model, stage)
    config = LoopConfig(rates=stages.rates(stage), steps=3, warmup_steps=1, bf16=False)
    loop = Loop(Listening(model), config, folder)
    model.train()
    for _ in range(3):
        loop.update([Collator(model)(visits(3))])


# The table ------------------------------------------------------------------------------------


def test_the_table_counts_every_part():
    model = toy_model()
    sizes = {part: count(getattr(model, stages.PREFIXES[part][:-1])) for part in stages.PREFIXES}
    made = stages.begin(model, PROJECTOR)
    assert made == {
        "projector": {"total": sizes["projector"], "lora": 0, "trainable": sizes["projector"]},
        "encoder": {"total": sizes["encoder"], "lora": 0, "trainable": 0},
        "decoder": {"total": sizes["decoder"], "lora": 0, "trainable": 0},
    }
    made = stages.begin(model, ADAPTERS)
    for part, lora in (("encoder", ENCODER_LORA), ("decoder", DECODER_LORA)):
        assert made[part] == {"total": sizes[part] + lora, "lora": lora, "trainable": lora}
    assert made["projector"]["trainable"] == 0
    whole = {"projector": 1e-3, "encoder": 1e-4, "decoder": 1e-4}
    made = stages.begin(toy_model(), Stage(steps=1, learning_rate=whole))
    positions = model.audio_tower.model.embed_positions.weight.numel()
    assert made["encoder"]["trainable"] == sizes["encoder"] - positions
    assert made["decoder"]["trainable"] == sizes["decoder"]
    assert made["projector"]["trainable"] == sizes["projector"]


def test_tied_embeddings_count_once():
    model = toy_model(decoder="smollm3")
    made = stages.begin(model, STAGES["decoder"])
    assert made["decoder"]["trainable"] == count(model.language_model)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize(
    ("stage", "part", "trainable"),
    [
        (PROJECTOR, "projector", lambda n: n - 1),
        (PROJECTOR, "projector", lambda n: 0),
        (PROJECTOR, "decoder", lambda n: 1),
        (PROJECTOR, "encoder", lambda n: 1),
        (ADAPTERS, "encoder", lambda n: n + 1),  # the encoder itself trains along
        (ADAPTERS, "encoder", lambda n: n - 64),
        (ADAPTERS, "decoder", lambda n: n + 1),
        (ADAPTERS, "projector", lambda n: 1),
        (STAGES["encoder"], "encoder", lambda n: 0),
        (STAGES["decoder"], "decoder", lambda n: n - 1),
    ],
)
def test_a_table_that_is_not_the_stages_is_refused(stage, part, trainable):
    made = stages.begin(toy_model(), stage)
    stages.check(made, stage)
    wrong = copy.deepcopy(made)
    wrong[part]["trainable"] = trainable(wrong[part]["trainable"])
    said = f"{wrong[part]['trainable']:,} parameters of the {part} train"
    with pytest.raises(ConfigError, match=said):
        stages.check(wrong, stage)


# Adapters -------------------------------------------------------------------------------------


def test_projector_then_adapters_then_both(tmp_path):
    """Each stage changes what it names, whole, and leaves the rest as the one before left it."""
    model = toy_model()
    moved = {}
    for name, stage in {"one": PROJECTOR, "two": ADAPTERS, "three": BOTH}.items():
        stages.begin(model, stage)  # so that new adapters are among what is compared
        before = {part: state(model, part) for part in stages.PREFIXES}
        train(model, stage, tmp_path / name)
        moved[name] = {part: changed(before[part], model, part) for part in stages.PREFIXES}
    whole = {part: set(state(model, part)) for part in stages.PREFIXES}
    adapters = {part: {n for n in whole[part] if "lora_" in n} for part in whole}
    assert moved["one"] == {"projector": whole["projector"], "encoder": set(), "decoder": set()}
    assert moved["two"] == {**adapters, "projector": set()}
    assert moved["three"] == {**adapters, "projector": whole["projector"]}
    assert len(adapters["encoder"]) == len(adapters["decoder"]) == 8


def test_adapters_begin_as_nothing_and_go_on_as_they_were(tmp_path):
    model = toy_model()
    batch = Collator(model)(visits(3))
    plain = Listening(model)(batch).total.detach()
    stages.begin(model, ADAPTERS)
    torch.testing.assert_close(Listening(model)(batch).total.detach(), plain)
    train(model, ADAPTERS, tmp_path)
    trained = {part: state(model, part) for part in stages.PREFIXES}
    assert not torch.allclose(Listening(model)(batch).total.detach(), plain)
    for stage in (PROJECTOR, BOTH):
        made = stages.begin(model, stage)
        assert all(not changed(trained[part], model, part) for part in trained)
        assert made["decoder"]["lora"] == DECODER_LORA  # not a second set
        assert made["decoder"]["trainable"] == (DECODER_LORA if stage is BOTH else 0)


@pytest.mark.parametrize(
    "other",
    [
        LoraConfig(rank=8, targets=LORA.targets),
        LoraConfig(rank=4, targets=("q_proj",)),
        LoraConfig(rank=4, targets=LORA.targets, alpha=16),
    ],
)
def test_adapters_with_other_numbers_are_refused(other):
    model = toy_model()
    stages.begin(model, ADAPTERS)
    stage = Stage(steps=1, learning_rate={"decoder": 1e-3}, lora={"decoder": other})
    with pytest.raises(ConfigError, match=r"The decoder has adapters already.*same numbers"):
        stages.begin(model, stage)


@pytest.mark.parametrize("target", ["q_proj", "k_proj", "v_proj", "out_proj"])
def test_adapters_that_would_never_be_asked_are_refused(target):
    """WavLM's attention takes the weights of its projections, past any adapter on them."""
    lora = LoraConfig(rank=4, targets=("output_dense", target))
    stage = Stage(steps=1, learning_rate={"encoder": 1e-3}, lora={"encoder": lora})
    with pytest.raises(ConfigError, match=f"wavlm's {target} would do nothing.*output_dense"):
        stages.begin(toy_model("wavlm"), stage)


def test_one_part_after_the_other_gets_adapters():
    model = toy_model("hubert_large")
    for part in ("decoder", "encoder"):
        made = stages.begin(model, Stage(steps=1, learning_rate={part: 1e-3}, lora={part: LORA}))
        assert [p for p in made if made[p]["trainable"]] == [part]
    assert made["decoder"]["lora"] == DECODER_LORA


def test_a_part_with_adapters_may_train_whole_afterwards():
    model = toy_model()
    stages.begin(model, ADAPTERS)
    made = stages.begin(model, STAGES["decoder"])
    assert made["decoder"]["trainable"] == made["decoder"]["total"]
    assert made["encoder"] == {**made["encoder"], "lora": ENCODER_LORA, "trainable": 0}


def test_what_trains_is_float32():
    model = toy_model().bfloat16()
    model.projector.float()
    stages.begin(model, ADAPTERS)
    stages.begin(model, BOTH)
    assert {p.dtype for p in model.trainable().values()} == {torch.float32}
    stages.begin(model, Stage(steps=1, learning_rate={"encoder": 1e-4, "decoder": 1e-4}))
    assert {p.dtype for p in model.trainable().values()} == {torch.float32}


# Rates ----------------------------------------------------------------------------------------


def test_every_parameter_has_the_rate_of_its_part():
    rates = {"projector": 1e-3, "encoder": 2e-4, "decoder": 3e-5}
    stage = Stage(steps=1, learning_rate=rates, lora={"encoder": LORA})
    model = toy_model()
    stages.begin(model, stage)
    listening = Listening(model)
    (optimizer,) = adamw(listening, stages.rates(stage), 0.01)
    names = {id(p): n for n, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            found[name] = group["rate"]
            assert group["weight_decay"] == (0.01 if parameter.ndim >= 2 else 0.0)
    assert found.keys() == model.trainable().keys()
    for part, rate in rates.items():
        own = {n: r for n, r in found.items() if n.startswith(stages.PREFIXES[part])}
        assert own
        assert set(own.values()) == {rate}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": {"projektor": 1e-3}}, "Did you mean 'projector'"),
        ({"lora": {"decoder": LORA}}, "needs learning_rate.decoder"),
        ({"lora": {"projector": LORA}}, "trains whole"),
        ({"learning_rate": {"encoder": 1e-4}, "cache": True}, "set cache=false"),
        ({"frame_dropout": 0.1}, "change cached frames: set cache=true"),
        ({"frame_stretch": 0.1}, "change cached frames: set cache=true"),
        ({"frame_stretch": -0.1, "cache": True}, "at least 0"),
        ({"frame_dropout": 1.0, "cache": True}, "a share from 0 to 1"),
        ({"minutes": 3.0}, "one of steps, minutes and epochs"),
        ({"steps": 0}, "one of steps, minutes and epochs"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        Stage(**{"steps": 1, **values})
