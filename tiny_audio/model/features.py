"""Step 3 of the path: samples → features; and what batches of features and frames are.

Letters: B clips, N samples, F mel bins, M mel steps, T frames, E width. A clip here is one window
of sound; longer audio is cut into windows before it comes here.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from .audio import SAMPLE_RATE

# Whisper's log-mel front end (paper, section 2.2): 25 ms windows every 10 ms.
FFT_SAMPLES = 400
HOP_SAMPLES = 160
# Both front ends need one full window: 400 samples give one HuBERT frame, 399 raise in its last
# conv.
MIN_SAMPLES = 400


class Features(NamedTuple):
    """The input of an encoder: `values` (B, F, M) log-mel or (B, N) samples, and valid steps."""

    values: Tensor
    lengths_B: Tensor


class Convolution(NamedTuple):
    """A convolution on the way from feature steps to frames."""

    kernel: int
    stride: int
    padding: int = 0


class Frames(NamedTuple):
    """The output of an encoder, kept: `values` (B, T, E) and the valid frames of each."""

    values: Tensor
    lengths_B: Tensor


def pad_frames(frames: Sequence[Tensor], multiple: int = 1) -> Frames:
    """Pad frames (T, E) to a batch in float32, T a multiple of `multiple`."""
    lengths_B = torch.tensor([len(f) for f in frames])
    padded = torch.nn.utils.rnn.pad_sequence([f.float() for f in frames], True)
    extra = -padded.shape[1] % multiple
    return Frames(F.pad(padded, (0, 0, 0, extra)), lengths_B)


@functools.cache
def mel_filters(num_mel_bins: int) -> Tensor:
    """Return Slaney mel filters (F, 201) up to 8 kHz, as Whisper uses them."""
    filters = mel_filter_bank(
        num_frequency_bins=FFT_SAMPLES // 2 + 1,
        num_mel_filters=num_mel_bins,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.T).float()


def log_mel(samples_N: Tensor, num_mel_bins: int) -> Tensor:
    """Compute Whisper's log-mel spectrogram (F, N // 160) of one clip of any length."""
    window = torch.hann_window(FFT_SAMPLES, device=samples_N.device)
    spectrum = torch.stft(
        samples_N.float(), FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True
    )
    power = spectrum[:, :-1].abs() ** 2
    mel = mel_filters(num_mel_bins).to(power.device) @ power
    log = mel.clamp(min=1e-10).log10()
    log = torch.maximum(log, log.max() - 8.0)
    return (log + 4.0) / 4.0


def mel_row(samples_N: Tensor, hf: Any, whole: int) -> Tensor:
    """Return the log-mel features (F, M) of a clip, padded to `whole` samples."""
    return log_mel(F.pad(samples_N, (0, max(0, whole - len(samples_N)))), hf.num_mel_bins)


def waveform_row(samples_N: Tensor, hf: Any, whole: int) -> Tensor:
    """Return the samples as the encoder was trained on them."""
    return samples_N.float() if in_groups(hf) else normalised(samples_N)


def in_groups(hf: Any) -> bool:
    """Tell whether the first convolution normalises over the whole clip, as *base* models do."""
    return getattr(hf, "feat_extract_norm", "") == "group"


def normalised(samples_N: Tensor) -> Tensor:
    """Scale a clip to zero mean and unit variance over itself, never over its padding."""
    samples_N = samples_N.float()
    return (samples_N - samples_N.mean()) / torch.sqrt(samples_N.var(correction=0) + 1e-7)


def valid_mask(lengths_B: Tensor, longest: int) -> Tensor:
    """Return (B, longest) bool, True where a position belongs to its row."""
    return torch.arange(longest, device=lengths_B.device)[None] < lengths_B[:, None]


def average_pool(
    frames_BTE: Tensor, lengths_B: Tensor, size: int, keep: int
) -> tuple[Tensor, Tensor]:
    """Average every `size` frames into `keep` (overlapping by a frame where they do not divide)."""
    if size == keep:
        return frames_BTE, lengths_B
    pooled_B = -(-lengths_B * keep // size)
    index = torch.arange(int(pooled_B.max()), device=frames_BTE.device)
    start, stop = index * size // keep, -(-(index + 1) * size // keep)
    # Prefix sums make every group one subtraction; a clip's last group ends where the clip ends.
    sums = F.pad(frames_BTE.float().cumsum(1), (0, 0, 1, 0))
    stop_BP = torch.minimum(stop[None], lengths_B[:, None])
    start_BP = torch.minimum(start[None].expand_as(stop_BP), stop_BP)
    rows = torch.arange(len(lengths_B), device=frames_BTE.device)[:, None]
    total = sums[rows, stop_BP] - sums[rows, start_BP]
    mean = total / (stop_BP - start_BP).clamp(min=1)[..., None]
    return mean.to(frames_BTE.dtype), pooled_B
