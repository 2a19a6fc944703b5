"""Encoder output: three seconds of sound become 149 or 150 frames, and how long a frame is."""

import torch
from options import model_of, options, title
from torch import Tensor

from tiny_audio import load_audio
from tiny_audio.model.encoder import features
from tiny_audio.scope.plan.parameters import true_scale

args = options(__doc__, encoder=True)
samples_N = load_audio(args.file).samples[:48_000]


def show(name: str, frames_BTE: Tensor, promised: int) -> None:
    """Shapes, compression, and the promise that the configuration made without weights."""
    _, num_frames, width = frames_BTE.shape
    title(name)
    print(f"Input:  [1, {len(samples_N)}] samples, {len(samples_N) / 16_000:.2f} s")
    print(f"Output: {list(frames_BTE.shape)} frames")
    print(f"Time is {len(samples_N) / num_frames:.1f} × shorter")
    print(f"One frame for every {1000 * len(samples_N) / 16_000 / num_frames:.1f} ms of sound")
    print(f"frames_for({len(samples_N)}) = {promised}, width {width}")
    assert promised == num_frames


if args.scale != "true":
    model = model_of(args)
    frames_BTE = model.encode(samples_N, 16_000)
    promised = model.config.encoder.frames_for(len(samples_N))
    depth = model.config.encoder.hf.num_hidden_layers
    front = "log-mel" if model.config.encoder.takes_mel else "waveform"
    show(f"{args.encoder or args.model}: {front}, then {depth} layers", frames_BTE, promised)
    print(f"Mean {frames_BTE.mean():.4f}, std {frames_BTE.std():.4f}")
    print(f"Min {frames_BTE.min():.4f}, max {frames_BTE.max():.4f}")

if args.scale != "nano":
    model = true_scale("hubert_swiglu_qwen3", lora=False)
    encoder = model.config.encoder
    # On `meta` a tensor is a shape: the stock module runs, nothing is computed.
    values_BN = features(encoder, [samples_N]).values.to("meta", torch.bfloat16)
    frames_BTE = model.encoder.model(values_BN).last_hidden_state
    layers = encoder.hf.num_hidden_layers
    show(f"HuBERT-xlarge, {layers} layers", frames_BTE, encoder.frames_for(len(samples_N)))
