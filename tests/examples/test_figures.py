"""Every figure of the systems the course describes, computed from built modules.

On `meta`, at true scale. Each row: what it is, the figure that must come out, how it is computed.
"""

import functools

import pytest
import torch
import toys
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, WhisperForConditionalGeneration

from tiny_audio.model.configuration import LoraConfig
from tiny_audio.model.encoder import ENCODERS, features
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projector import BlpConfig, SwigluConfig, build_projector
from tiny_audio.presets import parts, preset
from tiny_audio.scope.plan.parameters import components, true_scale
from tiny_audio.scope.plan.projectors import COURSE, compare

HUBERT, SMOL, CONV = "hubert_swiglu_qwen3", "whisper_swiglu_smollm3", "whisper_conv_smollm3"
model = functools.cache(true_scale)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def projector(config, encoder_dim: int, decoder_dim: int) -> nn.Module:
    with torch.device("meta"):
        return build_projector(config, encoder_dim, decoder_dim)


@functools.cache
def heard(name: str, num_samples: int) -> torch.Tensor:
    """The stock encoder's output for a clip, its shape computed layer by layer on `meta`."""
    found = model(name)
    values = features(found.config.encoder, toys.clips(num_samples)).values
    return found.encoder.model(values.to("meta", torch.bfloat16)).last_hidden_state


def adapters(part: nn.Module) -> int:
    return sum(p.numel() for n, p in part.named_parameters() if "lora_" in n)


def layers_of(name: str) -> nn.ModuleList:
    return model(name).decoder.base_model.layers


def heads(name: str, projection: str) -> int:
    attention = layers_of(name)[0].self_attn
    return getattr(attention, projection).out_features // attention.head_dim


def hubert_layer() -> nn.Module:
    return model(HUBERT).encoder.model.encoder.layers[0]


def whole_whisper(architecture: dict) -> int:
    values = dict(architecture)
    with torch.device("meta"):
        return count(WhisperForConditionalGeneration(AutoConfig.for_model(**values)))


def sixteen() -> int:
    """LoRA r=16 on q, k, v and o, in place of r=32 on q and v."""
    found = true_scale(HUBERT, lora=False)
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    with torch.device("meta"):
        found.add_lora("decoder", LoraConfig(rank=16, targets=targets))
    return adapters(found.decoder)


def swiglu(index: int):
    return compare(COURSE, 1280, 2048, 3.0)[index]


def connector(width: int) -> nn.Module:
    return projector(BlpConfig(expand=2), 5120, width)


def connected(width: int) -> list[int]:
    """Numbers before, inside and behind the connector for 30 s at 20 Hz."""
    x = torch.empty(1, 600, 5120, device="meta")
    hidden = connector(width).linear_1(x)
    return [v.numel() for v in (x, hidden, connector(width).linear_2(F.gelu(hidden)))]


A = [
    ("encoder layers", 48, lambda: len(model(HUBERT).encoder.model.encoder.layers)),
    ("encoder width", 1280, lambda: heard(HUBERT, 48_000).shape[-1]),
    ("encoder heads", 16, lambda: hubert_layer().attention.num_heads),
    ("encoder FFN", 5120, lambda: hubert_layer().feed_forward.intermediate_dense.out_features),
    ("frames of 3 s", 149, lambda: heard(HUBERT, 48_000).shape[1]),
    ("samples per frame", 322.1, lambda: round(48_000 / heard(HUBERT, 48_000).shape[1], 1)),
    ("ms per frame", 20.1, lambda: round(3_000 / heard(HUBERT, 48_000).shape[1], 1)),
    ("LoRA on the encoder", 1_966_080, lambda: adapters(model(HUBERT).encoder)),
    ("LoRA on the decoder", 15_335_424, lambda: adapters(model(HUBERT).decoder)),
    ("positions of 3 s", 30, lambda: model(HUBERT).projector(heard(HUBERT, 48_000)).shape[1]),
    ("stacked width", 6400, lambda: model(HUBERT).projector.gate_proj.in_features),
    ("hidden", 8192, lambda: model(HUBERT).projector.up_proj.out_features),
    ("projector to 2048", 121_643_264, lambda: count(projector(SwigluConfig(), 1280, 2048))),
    ("projector to 4096", 138_422_528, lambda: count(model(HUBERT).projector)),
    ("decoder layers", 36, lambda: len(layers_of(HUBERT))),
    ("decoder width", 4096, lambda: model(HUBERT).get_input_embeddings().embedding_dim),
    ("decoder heads", 32, lambda: heads(HUBERT, "q_proj")),
    ("decoder kv heads", 8, lambda: heads(HUBERT, "k_proj")),
    ("decoder FFN", 12_288, lambda: layers_of(HUBERT)[0].mlp.up_proj.out_features),
    ("decoder vocabulary", 151_936, lambda: model(HUBERT).get_input_embeddings().num_embeddings),
    ("k=5, hidden 4096", 60_825_856, lambda: swiglu(1).parameters),
    ("k=8", 184_561_664, lambda: swiglu(2).parameters),
    ("k=2", 58_724_864, lambda: swiglu(3).parameters),
    ("frames of 3.0 s", [30, 30, 18, 75], lambda: [swiglu(n).whole for n in range(4)]),
    ("compression", [5, 5, 8.3, 2], lambda: [round(swiglu(n).compression, 1) for n in range(4)]),
    (
        "ms per frame by k",
        [100, 100, 166.7, 40],
        lambda: [round(swiglu(n).ms_per_position, 1) for n in range(4)],
    ),
    ("share of all that trains", 1.67, lambda: share(HUBERT)),
]
B = [
    ("frames of Whisper's window", 1500, lambda: heard(SMOL, 48_000).shape[1]),
    ("encoder width", 1280, lambda: heard(SMOL, 48_000).shape[-1]),
    ("valid frames of 3 s", 150, lambda: model(SMOL).config.encoder.frames_for(48_000)),
    ("positions of 3 s", 30, lambda: model(SMOL).projector(heard(SMOL, 48_000)[:, :150]).shape[1]),
    ("decoder width", 2048, lambda: model(SMOL).get_input_embeddings().embedding_dim),
    ("decoder layers", 36, lambda: len(layers_of(SMOL))),
    ("decoder heads", 16, lambda: heads(SMOL, "q_proj")),
    ("decoder kv heads", 4, lambda: heads(SMOL, "k_proj")),
    ("decoder FFN", 11_008, lambda: layers_of(SMOL)[0].mlp.up_proj.out_features),
    ("decoder vocabulary", 128_256, lambda: model(SMOL).get_input_embeddings().num_embeddings),
    ("audio_downsample_rate", 5, lambda: model(SMOL).config.audio_downsample_rate),
    ("encoder_dim and llm_dim", (1280, 2048), lambda: dims(SMOL)),
]
C = [
    ("positions of 1500 frames", (375, 2048), lambda: convolved(1500)),
    ("frames per position", 4, lambda: preset(CONV).config().audio_downsample_rate),
    ("families of encoders", {"whisper", "hubert", "wav2vec2", "wavlm"}, lambda: set(ENCODERS)),
    ("a window of Whisper, s", 30, lambda: preset(CONV).config().encoder.max_samples / 16_000),
]
D = [
    ("hidden states", (0, 7, 15, 32), lambda: preset("mufun").encoder.layers),
    ("concatenated width", 5120, lambda: preset("mufun").config().encoder_dim),
    ("positions of 30 s", 600, lambda: preset("mufun").config().positions_for(480_000)),
    ("positions at 10 Hz", 300, lambda: preset("mufun_10hz").config().positions_for(480_000)),
    ("of a minute: two windows", 1200, lambda: preset("mufun").config().positions_for(960_000)),
    ("first layer", 52_439_040, lambda: count(connector(3584).linear_1)),
    ("second layer", 36_703_744, lambda: count(connector(3584).linear_2)),
    ("connector to 3584", 89_142_784, lambda: count(connector(3584))),
    ("its bytes in bf16", 178_285_568, lambda: num_bytes(connector(3584).to(torch.bfloat16))),
    ("connector to 4096", 94_386_176, lambda: count(connector(4096))),
    ("activations of 30 s", [3_072_000, 6_144_000, 2_150_400], lambda: connected(3584)),
    ("GELU", [-0.046, -0.159, 0, 0.841, 1.954], lambda: gelu([-2, -1, 0, 1, 2])),
]
F_TABLE = [
    ("HuBERT-xlarge", 962_497_408, lambda: count(model(HUBERT).encoder) - 1_966_080),
    ("Whisper large-v3 encoder", 636_968_960, lambda: count(model("mufun").encoder)),
    ("large-v3-turbo encoder", 636_968_960, lambda: count(model(SMOL).encoder)),
    ("Whisper large-v3", 1_543_490_560, lambda: whole_whisper(parts.WHISPER_LARGE_V3)),
    ("large-v3-turbo", 808_878_080, lambda: whole_whisper(parts.WHISPER_LARGE_V3_TURBO)),
    ("Qwen3-8B", 8_190_735_360, lambda: count(model("mufun").decoder)),
    ("SmolLM3-3B", 3_075_098_624, lambda: count(model(SMOL).decoder)),
    ("LoRA r=16 on q, k, v, o", 15_335_424, sixteen),
]
TABLE = {"A": A, "B": B, "C": C, "D": D, "F": F_TABLE}
FIGURES = [
    pytest.param(*row, id=f"{part}: {name}") for part, rows in TABLE.items() for name, *row in rows
]


def share(name: str) -> float:
    """Percent of all parameters that train."""
    found: AudioLM = model(name)
    trained = sum(p.numel() for p in found.trainable().values())
    return round(100 * trained / count(found), 2)


def dims(name: str) -> tuple[int, int]:
    return model(name).config.encoder_dim, model(name).config.llm_dim


def convolved(num_frames: int) -> tuple[int, ...]:
    made = projector(preset(CONV).projector, 1280, 2048)
    return tuple(made(torch.empty(1, num_frames, 1280, device="meta")).shape[1:])


def num_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def gelu(points: list[float]) -> list[float]:
    return [round(value, 3) for value in F.gelu(torch.tensor(points, dtype=torch.float)).tolist()]


@pytest.mark.slow
@pytest.mark.parametrize(("figure", "compute"), FIGURES)
def test_a_figure_comes_out_of_the_modules(figure, compute):
    assert compute() == figure


@pytest.mark.slow
def test_the_table_of_a_preset_adds_up():
    rows = {row.name: row for row in components(model(HUBERT))}
    whole = rows.pop("all")
    assert sum(row.total for row in rows.values()) == whole.total == count(model(HUBERT))
    assert sum(row.trainable for row in rows.values()) == whole.trainable
    assert sum(row.num_bytes for row in rows.values()) == whole.num_bytes
    without = components(true_scale(HUBERT, lora=False))
    assert [row.name for row in without] == ["encoder", "projector", "decoder", "all"]
