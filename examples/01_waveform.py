"""A raw and a z-normalised waveform: what a file becomes before HuBERT hears it."""

import numpy as np
from matplotlib.figure import Figure
from options import options, title

from tiny_audio import load_audio
from tiny_audio.model.encoder import features
from tiny_audio.presets import preset

args = options(__doc__, scales=False)
audio = load_audio(args.file)
samples_N = audio.samples

title("SAMPLES")
print(f"Sample rate: {audio.sampling_rate} Hz")
print(f"Duration: {audio.duration_s:.2f} seconds")
print(f"Shape: {tuple(samples_N.shape)}")
print(f"Value range: [{samples_N.min():.4f}, {samples_N.max():.4f}]")
print(f"Mean: {samples_N.mean():.4f}, std: {samples_N.std(correction=0):.4f}")

# HuBERT's own front end at true scale; it needs a configuration and no weights.
hubert = preset("hubert_swiglu_qwen3").encoder
normalised_BN = features(hubert, [samples_N]).values
title("AFTER Z-NORMALISATION")
print(f"Shape: {list(normalised_BN.shape)}")
print(f"Mean: {abs(normalised_BN.mean()):.4f}, std: {normalised_BN.std(correction=0):.4f}")

figure = Figure(figsize=(14, 4), layout="constrained")
time_s = np.arange(len(samples_N)) / audio.sampling_rate
for axis, heading, values in zip(
    figure.subplots(1, 2),
    ("raw waveform", "after z-normalisation"),
    (samples_N, normalised_BN[0]),
    strict=True,
):
    axis.plot(time_s, values, linewidth=0.5)
    axis.set(title=heading, xlabel="time (s)", ylabel="amplitude")
    axis.grid(alpha=0.3)
figure.savefig(args.out / "audio_processing.png", dpi=120)
print(f"\nSaved {args.out / 'audio_processing.png'}")
