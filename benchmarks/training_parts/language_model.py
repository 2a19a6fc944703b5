"""The language model's part of a step, against the best matrix rate of the machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from tiny_audio.model.checkpoint import assemble
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.decoder import DecoderConfig, empty_decoder
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets.parts import SMOLLM2_135M
from tiny_audio.train import stages
from tiny_audio.train.hardware import autocast
from tiny_audio.train.task import Listening, chunked_loss
from training_parts.step import STAGE, clips_near, collator, nano
from training_parts.watch import Row, Watch, spread

# Names of operations, or parts of them, by what they do.
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn_linear"),
    "attention": ("scaled_dot_product", "flash_attention", "aten::_softmax"),
    "casts and copies": ("aten::copy_", "aten::cat", "aten::index"),
}
REST = "norms, gates, rest"


def best_rates(dtypes: Sequence[str], sizes: Sequence[int], repetitions: int, device: str) -> Row:
    """FLOP/s of products of square matrices, at the median of repetitions, by dtype and size."""
    return {
        dtype: {str(n): product_rate(n, getattr(torch, dtype), repetitions, device) for n in sizes}
        for dtype in dtypes
    }


def product_rate(size: int, dtype: torch.dtype, repetitions: int, device: str) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in "ab")
    taken_s = Watch(device).repeated(lambda: a @ b, repetitions)
    return 2 * size**3 / statistics.median(taken_s)


def language_model(
    decoder: str,
    dtype: str,
    attention: str,
    clips: int,
    clip_s: float,
    repetitions: int,
    device: str,
) -> Row:
    """Decoder and loss, forward and backward, from a batch's embeddings to their gradient.

    `attention` is a kernel by transformers' name for it, or empty: what a run takes.
    """
    torch.manual_seed(0)
    model, watch = nano(device), Watch(device)
    if decoder == "smollm2_135m":
        model = with_decoder(model, DecoderConfig(architecture=SMOLLM2_135M))
    model.language_model.to(getattr(torch, dtype))
    if attention:
        model.language_model.set_attn_implementation(attention)
    once, positions = part(model, clips, clip_s)
    taken_s = watch.repeated(once, repetitions)
    flops = counted(once)
    return {
        "time_ms": spread(taken_s),
        "flops": flops,
        "rate": flops / statistics.median(taken_s),
        "positions": positions,
        "attention": model.language_model.config._attn_implementation,
        "shares": shares(once, device),
    }


def with_decoder(model: AudioLM, decoder: DecoderConfig) -> AudioLM:
    """Random weights of this shape behind the same encoder, reading the same tokens."""
    config = AudioLMConfig(
        audio_config=model.config.encoder.to_dict(),
        projector_config=model.config.projector.to_dict(),
        decoder_config=decoder.to_dict(),
        prompt_config=model.config.prompt.to_dict(),
    )
    parts = model.audio_tower, empty_decoder(decoder), model.tokenizer
    whole = assemble(config, *parts).to(model.device)
    stages.begin(whole, STAGE)
    return whole


def part(model: AudioLM, clips: int, clip_s: float) -> tuple[Callable[[], None], list[int]]:
    """What `Listening` does between the embeddings and the loss; rows and positions."""
    task, device, collate = Listening(model.train()), model.device, collator(model)
    batch: Any = collate(clips_near(clip_s, clips))
    batch = batch.to(device)
    with torch.no_grad(), autocast(True, device.type):
        embeds_BLD = task.embed(batch)
    embeds_BLD.requires_grad_()

    def once() -> None:
        embeds_BLD.grad = None
        with autocast(True, device.type):
            hidden_SD, targets_S = task.answers(embeds_BLD, batch.mask_BL, batch.labels_BL)
            total, _ = chunked_loss(model.get_output_embeddings(), hidden_SD, targets_S)
        total.backward()

    return once, list(batch.ids_BL.shape)


def counted(call: Callable[[], Any]) -> int:
    """Operations of all matrix products as they are executed, the CPU's own attention included."""
    aten = torch.ops.aten

    def forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    def backward(gradient: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient, q, k, v)

    own = {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        call()
    return counter.get_total_flops()


def shares(call: Callable[[], Any], device: str) -> dict[str, float]:
    """Which kinds of operations the time goes to."""
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        call()
    spent = dict.fromkeys([*KINDS, REST], 0.0)
    for row in profiled.key_averages():
        if row.device_type != DeviceType.CPU:
            continue  # a kernel: its time is told once more by the operation that started it
        spent[kind_of(row.key)] += row.self_device_time_total if on_gpu else row.self_cpu_time_total
    return {kind: us / sum(spent.values()) for kind, us in spent.items()}


def kind_of(operation: str) -> str:
    kinds = (kind for kind, names in KINDS.items() if any(name in operation for name in names))
    return next(kinds, REST)
