"""One clip through encoder and projector, with a heat map of each."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from options import model_of, options, title
from torch import Tensor

from tiny_audio import load_audio
from tiny_audio.model.encoder import features
from tiny_audio.scope.plan.parameters import true_scale

args = options(__doc__, encoder=True)
samples_N = load_audio(args.file).samples[:48_000]


def show(frames_BTE: Tensor, audio_BPD: Tensor, rate: float, dims: tuple[int, int]) -> None:
    print(f"Encoder output:   {list(frames_BTE.shape)} (one frame for every 20 ms)")
    print(f"Projector output: {list(audio_BPD.shape)} ({rate:g} × fewer, {dims[0]} → {dims[1]})")


def draw(values_TD: Tensor, heading: str, path: Path) -> None:
    """One row for each dimension, one column for each vector, over the seconds of the clip."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    axis = figure.subplots()
    extent = (0, len(samples_N) / 16_000, 0, values_TD.shape[1])
    how = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    image = axis.imshow(values_TD.T, extent=extent, **how)
    figure.colorbar(image, label="activation")
    axis.set(title=heading, xlabel="time (s)", ylabel="dimension")
    figure.savefig(path, dpi=120)
    print(f"Saved {path}")


if args.scale != "true":
    title(args.encoder or args.model)
    model = model_of(args)
    config = model.config
    with torch.inference_mode():
        frames_BTE = model.encode(samples_N, 16_000)
        audio_BPD = model.audio_projector(frames_BTE)
    dims = (config.encoder_dim, config.llm_dim)
    show(frames_BTE, audio_BPD, config.audio_downsample_rate, dims)
    draw(frames_BTE[0], "encoder output", args.out / "encoder_output.png")
    draw(audio_BPD[0], "projector output", args.out / "projector_output.png")

if args.scale != "nano":
    title("true scale: Whisper large-v3-turbo, SmolLM3-3B")
    model = true_scale("whisper_swiglu_smollm3")
    config, encoder = model.config, model.config.encoder
    mel_BFM = features(encoder, [samples_N]).values.to("meta", torch.bfloat16)
    frames_BTE = model.encoder.model(mel_BFM).last_hidden_state
    valid = encoder.frames_for(len(samples_N))
    print(f"Whisper computes {frames_BTE.shape[1]} frames of 30 s; {valid} are of the clip.")
    frames_BTE = frames_BTE[:, :valid]
    dims = (config.encoder_dim, config.llm_dim)
    show(frames_BTE, model.projector(frames_BTE), config.audio_downsample_rate, dims)
