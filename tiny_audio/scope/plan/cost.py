"""Estimating a training step in bytes and operations, from shapes and a batch's lengths alone.

Letters: D width, A heads · head width, I width of the feed-forward layer, V vocabulary; `wide` is
the size of an activation, 2 bytes under bf16 autocast and 4 without.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.modeling import AudioLM
from tiny_audio.train.recipe import Stage
from tiny_audio.train.task import CHUNK_LOGITS

# Speech has 2.5 words a second and a word has 1.3 to 1.6 tokens in vocabularies of 50,000 and more.
TEXT_TOKENS_PER_S = 4.0
PROMPT_TOKENS = 32  # of Qwen3's and SmolLM3's chat template around "Transcribe: <audio>"
LOGIT_BYTES = 12  # bf16 logits, their float32 copy and its gradient, and that in bf16


@dataclass(frozen=True)
class Load:
    """The content of one micro-batch: clips of equal length, so that none of it is padding."""

    clips: int
    samples: int  # of one clip
    frames: int  # of all clips, padding to the encoder's window included
    positions: int
    tokens: int  # that the decoder reads: prompts, audio and answers
    supervised: int

    @property
    def audio_s(self) -> float:
        return self.clips * self.samples / SAMPLE_RATE


def load_of(config: AudioLMConfig, clips: int, clip_s: float) -> Load:
    """Return the load of `clips` clips of `clip_s` seconds, with as much text as that time has."""
    samples = int(clip_s * SAMPLE_RATE)
    windows, encoder = config.windows(samples), config.encoder
    longest = encoder.max_samples if encoder.window == "full" else None
    frames = sum(encoder.unpooled_frames(encoder.steps_for(longest or n)) for n in windows)
    positions = config.positions_for(samples)
    answer = round(clip_s * TEXT_TOKENS_PER_S) + 1
    tokens = PROMPT_TOKENS + positions + answer
    return Load(clips, samples, clips * frames, clips * positions, clips * tokens, clips * answer)


@dataclass(frozen=True)
class Layers:
    """The repeated layer of a transformer."""

    depth: int
    width: int
    attention: int
    inner: int
    gated: bool
    norms_heads: bool  # Qwen3 normalises every head's query and key
    square: int  # heads whose T × T scores are kept: WavLM's, for its position bias

    def kept(self, wide: int) -> int:
        """Return the bytes a token that a layer keeps for the backward pass, whatever trains."""
        norms = 8 * self.width + (8 * self.attention if self.norms_heads else 0)
        return norms + wide * (4 * self.attention + (3 if self.gated else 1) * self.inner)


def decoder_layers(model: AudioLM) -> Layers:
    hf = model.config.text_config.to_dict()
    heads, width = hf["num_attention_heads"], hf["hidden_size"]
    return Layers(
        depth=hf["num_hidden_layers"],
        width=width,
        attention=heads * (hf.get("head_dim") or width // heads),
        inner=hf["intermediate_size"],
        gated=True,
        norms_heads=any(n.endswith("q_norm.weight") for n, _ in model.decoder.named_parameters()),
        square=0,
    )


def encoder_layers(model: AudioLM) -> Layers:
    hf, config = model.config.encoder.hf, model.config.encoder
    return Layers(
        depth=hf.num_hidden_layers,
        width=hf.hidden_size,
        attention=hf.hidden_size,
        inner=getattr(hf, "encoder_ffn_dim", None) or hf.intermediate_size,
        gated=False,
        norms_heads=False,
        square=hf.num_attention_heads if config.family == "wavlm" else 0,
    )


def activations(model: AudioLM, stage: Stage, load: Load, wide: int) -> int:
    """Return the bytes that a micro-batch adds at its worst moment.

    Per token and layer the decoder keeps 8·D (two norms compute in float32) + wide·4·A (query, key,
    value, attention) + wide·3·I (gate, up, their product), and 8·A more where heads are normalised.
    The gradient to the projector goes through it, so this holds for a frozen decoder too. Layers
    that train also keep their inputs (wide · the widths of all trained linear layers' inputs + 8·D
    for the norms). An encoder with trained weights keeps the same per frame, with wide·I for its
    plain feed-forward layer; a frozen one keeps nothing, and only one of its layers is there at a
    time. Positions keep 6 bytes of every input and output of the projector's layers.

    With `checkpoint_activations` a layer of the decoder keeps only its input, 4·D, and one layer at
    a time is computed again in full. The backward pass works on one more layer. Only supervised
    rows reach the vocabulary, in chunks of 2²⁴ logits: 12 bytes for each of a chunk.
    """
    again = stage.checkpoint_activations
    decoder, tokens = decoder_layers(model), load.tokens
    kept = _layers_bytes(decoder, model.language_model, tokens, 0, wide, again)
    kept += 4 * decoder.width * tokens  # the last norm
    if learns(model.audio_tower):
        per_clip = load.frames // load.clips
        encoder = encoder_layers(model)
        kept += _layers_bytes(encoder, model.audio_tower, load.frames, per_clip, wide, False)
        kept += _convolutions(model, load) if trains_whole(model.audio_tower) else 0
    kept += _projector(model.projector, load)
    spelled = load.supervised * model.config.text_config.vocab_size
    logits = min(spelled, CHUNK_LOGITS) * LOGIT_BYTES
    return max(kept + logits, _listening(model, load, wide))


def learns(part: nn.Module) -> bool:
    return any(p.requires_grad for p in part.parameters())


def trains_whole(part: nn.Module) -> bool:
    """Tell whether a part's own weights train, not only adapters on them."""
    return any(p.requires_grad and "lora_" not in n for n, p in part.named_parameters())


def _layers_bytes(
    layers: Layers, part: nn.Module, tokens: int, per_clip: int, wide: int, again: bool
) -> int:
    """Return all layers' kept activations, and one layer more that the backward pass works on."""
    linear = [m for n, m in part.named_modules() if isinstance(m, nn.Linear) and "lm_head" not in n]
    inputs = sum(m.in_features for m in linear if m.weight.requires_grad) // layers.depth
    norms = 8 * layers.width if trains_whole(part) else 0
    scores = 8 * layers.square * per_clip
    one = (layers.kept(wide) + wide * inputs + norms + scores) * tokens
    return 4 * layers.width * tokens * layers.depth + 2 * one if again else one * (layers.depth + 1)


def _convolutions(model: AudioLM, load: Load) -> int:
    """Return the bytes of every convolution's values of the waveform or the mel steps, 8 each."""
    hf, config = model.config.encoder.hf, model.config.encoder
    if config.takes_mel:
        return 8 * hf.hidden_size * 3 * load.frames
    steps, values = load.samples, 0
    for kernel, stride, channels in zip(hf.conv_kernel, hf.conv_stride, hf.conv_dim, strict=True):
        steps = (steps - kernel) // stride + 1
        values += steps * channels
    return 8 * values * load.clips


def _projector(projector: nn.Module, load: Load) -> int:
    """Return the bytes of the projector: its matrices per position, its convolutions per frame."""
    matrices = sum(sum(p.shape) for p in projector.parameters() if p.ndim == 2)
    convolutions = sum(sum(p.shape[:2]) for p in projector.parameters() if p.ndim == 3)
    return 6 * (matrices * load.positions + convolutions * load.frames)


def _listening(model: AudioLM, load: Load, wide: int) -> int:
    """Return the bytes of a frozen encoder's forward pass: one layer, or the first convolution."""
    layers = encoder_layers(model)
    one = layers.kept(wide) * load.frames
    if model.config.encoder.takes_mel:
        return one
    hf = model.config.encoder.hf
    first = load.clips * (load.samples // hf.conv_stride[0]) * hf.conv_dim[0]
    return max(one, first * (2 * wide + 8))


def stored(model: AudioLM) -> int:
    """Return the bytes of all weights and buffers as they lie in memory."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def autocast_copies(model: AudioLM) -> int:
    """Return the bytes of bf16 copies that autocast keeps until the backward pass is over."""
    parts = [model.projector, model.language_model]
    if learns(model.audio_tower):
        parts.append(model.audio_tower)
    table = id(model.get_input_embeddings().weight)
    output = model.get_output_embeddings()
    tied = output is not None and id(output.weight) == table
    return 2 * sum(
        p.numel()
        for part in parts
        for p in part.parameters()
        if p.ndim >= 2 and p.dtype == torch.float32 and (id(p) != table or tied)
    )


def optimizer_bytes(model: AudioLM, stage: Stage) -> int:
    """Return the optimiser's bytes: AdamW keeps two float32 numbers a weight, Muon one."""
    muon = stage.optimizer == "muon"
    return sum(
        p.numel() * (4 if muon and ".layers." in name and p.ndim == 2 else 8)
        for name, p in model.trainable().items()
    )


def flops_per_audio_s(model: AudioLM, stage: Stage, load: Load) -> float:
    """Estimate the floating-point operations for one second of audio, without attention's T² part.

    Each matrix weight takes 2 operations a token in the forward pass, 4 with the gradient through
    a frozen weight, 6 with that of a trained weight, and 2 more in the decoder if its activations
    are computed again. A frozen encoder takes 2, and none where its frames are cached: filling the
    cache comes once before.
    """
    again = 2 if stage.checkpoint_activations else 0
    encoder, decoder = model.audio_tower, model.language_model
    encoded = 0
    if learns(encoder):
        encoded = load.frames * _work(encoder, 4, 6)
    elif not stage.cache:
        encoded = load.frames * _work(encoder, 2, 2)
    head = decoder.get_output_embeddings().weight
    apart = {id(head), id(model.get_input_embeddings().weight)}  # not for every token, or a look-up
    read = _work(decoder, 4 + again, 6 + again, apart)
    spelled = load.supervised * head.numel() * (6 if head.requires_grad else 4)
    projected = load.positions * _work(model.projector, 4, 6)
    return (encoded + projected + load.tokens * read + spelled) / load.audio_s


def _work(part: nn.Module, frozen: int, trained: int, apart: Collection[int] = frozenset()) -> int:
    """Return the operations for a token of all matrices but those `apart`."""
    return sum(
        p.numel() * (trained if p.requires_grad else frozen)
        for p in part.parameters()
        if p.ndim >= 2 and id(p) not in apart
    )


def size(num_bytes: int) -> str:
    """Write a number of bytes for people: 1,234,567,890 is 1.23 GB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if abs(num_bytes) >= scale:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes / 1000:.3g} kB"
