"""Costs of a recipe: counts against the built parts, bytes against what torch really holds."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import toys
from pairs import batch_of
from rich.console import Console

from tiny_audio.data.mixture import DataConfig
from tiny_audio.model.checkpoint import empty
from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import build, preset
from tiny_audio.scope.plan.advice import devices_for, peak
from tiny_audio.scope.plan.blueprint import PartCount, begin, planned_config, weightless
from tiny_audio.scope.plan.cost import activations, autocast_copies, flops_per_audio_s, load_of
from tiny_audio.scope.plan.plan import Plan, StagePlan, parse_memory, plan, render
from tiny_audio.train import stages
from tiny_audio.train.optim import adamw, muon
from tiny_audio.train.recipe import ModelConfig, Recipe, Stage

PROJECTOR = {"projector": Stage(steps=1)}
EVERYTHING = Stage(steps=1, learning_rate={"projector": 1e-3, "encoder": 1e-4, "decoder": 1e-4})


def recipe(name: str = "nano", stages: dict[str, Stage] | None = None, **more: Any) -> Recipe:
    return Recipe(name=name, model=ModelConfig(preset=name), stages=stages or PROJECTOR, **more)


def only(found: Plan) -> StagePlan:
    (stage,) = found.stages
    return stage


# Counts -------------------------------------------------------------------------------------------


def test_parts_of_whisper_swiglu_smollm3_have_the_published_counts():
    stage = only(plan(recipe("whisper_swiglu_smollm3"), parse_memory("80GB")))
    assert stage.parts == {
        "encoder": PartCount(636_968_960, 0),
        "projector": PartCount(121_643_264, 121_643_264),
        "decoder": PartCount(3_075_098_624, 0),
    }
    assert stage.gradients == 4 * 121_643_264
    assert stage.optimizer == 8 * 121_643_264
    # Whisper's and SmolLM3's weights lie in bf16, and so do the decoder's few RoPE buffers.
    frozen = 2 * (636_968_960 + 3_075_098_624)
    assert 0 <= stage.weights - frozen - 4 * 121_643_264 < 1000


@pytest.mark.slow
def test_stages_follow_one_another_as_in_training():
    """HuBERT and Qwen3-8B: the projector, then adapters on both ends, then those go on."""
    lora = preset("hubert_swiglu_qwen3").lora
    rates = {"projector": 1e-4, "encoder": 1e-4, "decoder": 1e-4}
    adapters = Stage(steps=1, learning_rate=rates, lora=lora)
    stages = {**PROJECTOR, "adapters": adapters, "longer": replace(adapters, steps=2)}
    found = plan(recipe("hubert_swiglu_qwen3", stages), parse_memory("80GB"))
    first, second, third = found.stages
    assert first.trainable == first.parts["projector"].total == 138_422_528
    assert second.parts["encoder"] == PartCount(962_497_408 + 1_966_080, 1_966_080)
    assert second.parts["decoder"] == PartCount(8_190_735_360 + 15_335_424, 15_335_424)
    assert third.parts == second.parts
    assert found.fits
    assert 17e9 < first.peak < second.peak < 45e9


@pytest.mark.slow
@pytest.mark.parametrize("name", toys.EVERY_PRESET)
def test_every_preset_is_planned_and_a_larger_memory_takes_a_larger_batch(name):
    small, large = (only(plan(recipe(name), parse_memory(m))) for m in ("40GB", "80GB"))
    assert small.peak == large.peak
    assert 0 < small.largest_batch_s < large.largest_batch_s


@pytest.mark.slow
def test_a_part_that_trains_lies_in_float32():
    frozen, trained = plan(
        recipe("whisper_tiny", {**PROJECTOR, "all": EVERYTHING}), parse_memory("24GB")
    ).stages
    pretrained = 8_208_384 + 134_515_008
    assert abs(trained.weights - frozen.weights - 2 * pretrained) < 1000
    assert trained.parts["encoder"].trainable == 8_208_384 - 1500 * 384  # not Whisper's sinusoids


# Bytes --------------------------------------------------------------------------------------------


def held(model: AudioLM, run: Any) -> tuple[int, Any]:
    """Bytes that a forward pass keeps for the backward pass, weights and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> tuple[torch.Tensor, Any]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor, storage  # a storage that is not held could be freed and counted twice

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed[0]):
        result = run()
    return sum(storage.nbytes() for storage in kept.values()), result


def tensors_of(states: Any) -> list[torch.Tensor]:
    return [t for state in states.values() for t in state.values()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "make"),
    [
        (PROJECTOR["projector"], adamw),
        (EVERYTHING, adamw),
        (replace(EVERYTHING, optimizer="muon"), muon),
    ],
    ids=["projector", "everything", "muon"],
)
def test_weights_gradients_and_optimiser_are_those_that_torch_holds(stage, make):
    """nano with its true parts on a CPU; the whole estimate is within a factor of two."""
    data = DataConfig(batch_s=8.0)
    planned = only(plan(recipe(stages={"a": stage}, device="cpu", data=data), parse_memory("4GB")))
    model = build("nano")
    stages.begin(model, stage)
    model.train()
    assert planned.load.clips == 1
    batch = batch_of(model, toys.clips(8 * 16_000), answers=["four five six seven " * 3])

    def run() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(**batch, use_cache=False).loss

    kept, loss = held(model, run)
    loss.backward()
    optimizers = make(model, {"": 1e-3}, 0.01)
    for optimizer in optimizers:
        optimizer.step()
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    states = sum(t.nbytes for o in optimizers for t in tensors_of(o.state) if t.ndim)
    assert planned.weights == weights
    assert planned.gradients == gradients
    assert planned.optimizer == states
    assert kept / 2 < planned.copies + planned.activations < kept * 2
    assert planned.peak / 2 < weights + gradients + states + kept < planned.peak * 2


SHAPE = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}
DECODERS = {
    "llama": {"model_type": "llama", **SHAPE, "num_key_value_heads": 4, "intermediate_size": 200},
    "qwen3": {**toys.DECODERS["qwen3"], **SHAPE, "head_dim": 16, "intermediate_size": 160},
}


@pytest.mark.parametrize("family", toys.quick(DECODERS, ("qwen3",)))
@pytest.mark.parametrize("how", ["frozen", "adapters", "whole"])
def test_the_decoder_s_activations_are_those_that_autograd_keeps(family, how):
    """The docstring's formula against a count of the tensors, within 15 %, with bf16 weights."""
    recipe = preset("nano")
    decoder = replace(recipe.decoder, architecture={**DECODERS[family], "vocab_size": 64})
    model = empty(replace(recipe, decoder=decoder).config())
    model.language_model.to(torch.bfloat16)
    lora = {"decoder": LoraConfig(rank=4, targets=("q_proj", "v_proj"))}
    rates = {"projector": 1e-3} | ({} if how == "frozen" else {"decoder": 1e-4})
    stage = Stage(steps=1, learning_rate=rates, lora=lora if how == "adapters" else {})
    stages.begin(model, stage)
    load = load_of(model.config, 4, 8.0)
    rows = load.tokens // load.clips
    embeds = torch.randn(4, rows, 64, dtype=model.get_input_embeddings().weight.dtype)
    embeds.requires_grad_(True)
    mask = torch.ones(4, rows, dtype=torch.long)
    mask[0, rows // 2 :] = 0

    def run() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            body = model.language_model.model
            return body(inputs_embeds=embeds, attention_mask=mask, use_cache=False)

    kept, _ = held(model, run)
    table = model.get_input_embeddings().weight
    copies = autocast_copies(model) - 2 * sum(
        p.numel() for p in [*model.projector.parameters(), table] if p.ndim > 1
    )
    copies += 0 if how == "whole" else 2 * table.numel()  # a table in bf16 was not in the copies
    silent = replace(load, positions=0, supervised=0)
    one_more = model.config.text_config.num_hidden_layers + 1
    estimate = activations(model, stage, silent, 2) * (one_more - 1) / one_more
    assert estimate == pytest.approx(kept - copies, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("how", toys.quick(["adapters", "whole"], ["adapters"]))
def test_an_encoder_s_activations_are_those_that_autograd_keeps(how):
    architecture = {**toys.ENCODERS["whisper"], "d_model": 96, "encoder_ffn_dim": 384}
    encoder = EncoderConfig(architecture={**architecture, "encoder_layers": 6})
    model = empty(replace(preset("nano"), encoder=encoder).config())
    model.audio_tower.to(torch.bfloat16)
    lora = {"encoder": LoraConfig(rank=4, targets=("q_proj", "k_proj"))}
    rates = {"projector": 1e-3, "encoder": 1e-4}
    stage = Stage(steps=1, learning_rate=rates, lora=lora if how == "adapters" else {})
    stages.begin(model, stage)
    model.train()
    features = model.audio_tower.features(toys.clips(80_000, 80_000))

    def run() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model.audio_tower(features)

    kept, _ = held(model, run)
    learning = [p for p in model.audio_tower.parameters() if p.dtype == torch.float32]
    kept -= 2 * sum(p.numel() for p in learning if p.ndim > 1)
    heard = replace(load_of(model.config, 2, 5.0), positions=0, supervised=0, tokens=0)
    estimate = activations(model, stage, heard, 2) * 6 / 7
    # A GPU's autocast computes LayerNorm in float32, 8·D where a CPU keeps 4·D: estimated higher.
    assert 1 < estimate / kept < 1.35


@pytest.mark.slow
def test_checkpointing_needs_less_and_computes_more():
    deep = recipe("whisper_swiglu_smollm3")
    again = recipe(
        "whisper_swiglu_smollm3", {"projector": Stage(steps=1, checkpoint_activations=True)}
    )
    plain, lean = (only(plan(r, parse_memory("24GB"))) for r in (deep, again))
    assert lean.activations < plain.activations / 3
    assert lean.largest_batch_s > 3 * plain.largest_batch_s
    assert lean.flops_per_audio_s > 1.2 * plain.flops_per_audio_s


@pytest.mark.slow
def test_the_largest_batch_fits_and_one_clip_more_does_not():
    memory = parse_memory("24GB")
    stage = only(plan(recipe("whisper_swiglu_smollm3"), memory))
    assert stage.largest is not None
    for extra, fits in ((0.0, True), (10.0, False)):
        data = DataConfig(
            batch_s=stage.largest_batch_s + extra, batch_items=10_000, batch_tokens=10**9
        )
        assert plan(recipe("whisper_swiglu_smollm3", data=data), memory).fits is fits


@pytest.mark.slow
def test_budgets_in_tokens_and_items_hold_too():
    def clips(**budgets: Any) -> int:
        return only(plan(recipe(data=DataConfig(**budgets)), parse_memory("8GB"))).load.clips

    assert clips(batch_s=100.0) == 10
    assert clips(batch_s=100.0, batch_items=3) == 3
    assert clips(batch_s=100.0, batch_tokens=400) == 2
    assert clips(batch_s=1.0) == 1


ALL = {"projector": 1e-3, "encoder": 1e-5, "decoder": 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "memory", "said", "unsaid"),
    [
        # A batch that is too large, and would fit if activations were computed again.
        (Stage(steps=1), "16GB", "checkpoint_activations=true", "GPUs"),
        (Stage(steps=1, checkpoint_activations=True), "16GB", "", "does not fit"),
        # What the recipe does already is not advised, and what is frozen cannot be made smaller.
        (Stage(steps=1, checkpoint_activations=True), "8GB", "strategy=fsdp", "activations=true"),
        (Stage(steps=1), "4GB", "It needs", "adapters"),
        (
            Stage(steps=1, learning_rate=ALL),
            "24GB",
            "adapters (lora) of the encoder and the decoder",
            "batch_s",
        ),
    ],
)
def test_advice_is_what_the_recipe_does_not_do_yet_and_what_fits(stage, memory, said, unsaid):
    asked = recipe("whisper_swiglu_smollm3", {"one": stage}, data=DataConfig(batch_s=160))
    shown = " ".join(printed(plan(asked, parse_memory(memory))).split())
    assert said in shown
    assert unsaid not in shown


@pytest.mark.slow
def test_advice_that_is_taken_makes_the_stage_fit():
    asked = recipe("whisper_swiglu_smollm3", {"one": Stage(steps=1)}, data=DataConfig(batch_s=160))
    advice = only(plan(asked, parse_memory("16GB"))).advice
    assert advice.fits_again
    lean = {"one": Stage(steps=1, checkpoint_activations=True)}
    data = DataConfig(batch_s=advice.fits_again * 10.0, batch_items=10_000, batch_tokens=10**9)
    taken = recipe("whisper_swiglu_smollm3", lean, data=data)
    assert plan(taken, parse_memory("16GB")).fits


def test_the_number_of_devices_is_the_smallest_that_fits():
    fixed, layer = (100, 0, 20, 40), 5
    assert devices_for(fixed, 30, layer, usable=190) == 1
    number = devices_for(fixed, 30, layer, usable=60)
    assert number is not None
    for count, fits in ((number, True), (number - 1, False)):
        share = [each // count for each in fixed]
        assert (peak(*share, 30) + layer <= 60) is fits
    assert devices_for(fixed, 80, layer, usable=60) is None


# Time ---------------------------------------------------------------------------------------------


def test_operations_are_two_four_or_six_per_weight_and_token():
    """All of nano's matrices by hand, for the projector alone and for everything."""
    model = weightless(planned_config(ModelConfig()), torch.float32)
    load = load_of(model.config, 2, 10.0)
    matrices = {
        name: sum(p.numel() for p in part.parameters() if p.ndim > 1)
        for name, part in (("encoder", model.encoder), ("projector", model.projector))
    }
    table = 1536 * 256
    body = sum(p.numel() for p in model.decoder.parameters() if p.ndim > 1) - table
    fixed_table = 500 * 256  # Whisper's sinusoids never train

    def by_hand(heard: int, read: int) -> int:
        positions = 6 * matrices["projector"] * load.positions
        return (
            heard * load.frames + positions + read * (body * load.tokens + table * load.supervised)
        )

    begin(model, PROJECTOR["projector"])
    found = flops_per_audio_s(model, PROJECTOR["projector"], load)
    assert found * 20 == pytest.approx(by_hand(2 * matrices["encoder"], 4))
    cached = Stage(steps=1, cache=True)
    assert flops_per_audio_s(model, cached, load) * 20 == pytest.approx(by_hand(0, 4))
    begin(model, EVERYTHING)
    heard = 6 * matrices["encoder"] - 2 * fixed_table
    assert flops_per_audio_s(model, EVERYTHING, load) * 20 == pytest.approx(by_hand(heard, 6))


def test_an_epoch_is_hours_by_batch_and_by_speed():
    data = DataConfig(batch_s=50.0, micro_batches=2)
    stage = only(plan(recipe(data=data), parse_memory("8GB"), hours=10.0, flops_per_s=1e11))
    assert stage.steps_per_epoch == 360
    assert stage.epoch_s == pytest.approx(36_000 * stage.flops_per_audio_s / 1e11)
    unknown = only(plan(recipe(data=data), parse_memory("8GB")))
    assert (unknown.steps_per_epoch, unknown.epoch_s) == (None, None)


# What a recipe may name ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_checkpoint_folder_is_read_from_its_config_alone(tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    config = preset("whisper_tiny").config()
    config.save_pretrained(folder)
    model = ModelConfig(checkpoint=str(folder))
    found = only(plan(Recipe(name="more", model=model, stages=PROJECTOR), parse_memory("8GB")))
    assert found.parts["decoder"].total == 134_515_008
    packed = Recipe(name="more", model=ModelConfig(checkpoint="nano"), stages=PROJECTOR)
    assert only(plan(packed, parse_memory("8GB"))).parts["decoder"].total == 3_049_600
    missing = ModelConfig(checkpoint="somebody/trained")
    with pytest.raises(ConfigError, match=r"hf download somebody/trained config\.json"):
        plan(Recipe(name="more", model=missing, stages=PROJECTOR), parse_memory("8GB"))


@pytest.mark.slow
def test_parts_are_exchanged_by_folder_and_by_a_preset_s_hub_id(tmp_path):
    folder = tmp_path / "lm"
    folder.mkdir()
    architecture = preset("whisper_tiny").decoder.architecture
    (folder / "config.json").write_text(json.dumps(architecture))
    model = ModelConfig(encoder="openai/whisper-large-v3", decoder=str(folder))
    stage = only(plan(Recipe(name="mix", model=model, stages=PROJECTOR), parse_memory("8GB")))
    assert stage.parts["encoder"].total == 636_968_960
    assert stage.parts["decoder"].total == 134_515_008
    assert stage.parts["projector"].total == preset_projector(1280, 576)


def preset_projector(encoder_dim: int, decoder_dim: int) -> int:
    """nano's SwiGLU of k=4, hidden=256 between other widths."""
    stacked = 4 * encoder_dim
    return stacked + 2 * stacked * 256 + 256 * decoder_dim + decoder_dim


def test_a_hub_id_that_no_preset_knows_is_refused_with_the_cure():
    for part in ("encoder", "decoder"):
        model = ModelConfig(**{part: "somebody/model"})
        with pytest.raises(ConfigError, match=r"hf download somebody/model config\.json"):
            plan(Recipe(name="mix", model=model, stages=PROJECTOR), parse_memory("8GB"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("24GB", 24 * 10**9), ("16 GiB", 2**34), ("8000mb", 8 * 10**9), ("1.5T", 15 * 10**11)],
)
def test_memory_is_written_with_a_unit(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["24", "", "GB", "0GB", "-3GB", "24 GBs"])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(ConfigError, match="24GB"):
        parse_memory(text)


def printed(found: Plan) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(found))
    return console.export_text()


@pytest.mark.slow
def test_the_tables_hold_the_counts_and_the_assumptions():
    found = plan(
        recipe("whisper_swiglu_smollm3"), parse_memory("24GB"), hours=100.0, flops_per_s=2e14
    )
    shown = printed(found)
    for text in ("121,643,264", "3,075,098,624", "last 10 s", "200 TFLOP/s", "estimate"):
        assert text in shown
    assert "does not fit" not in shown
