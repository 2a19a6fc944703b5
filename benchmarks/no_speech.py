"""Words where nobody speaks: `uv run python benchmarks/no_speech.py [--sounds MANIFEST]`, offline.

A model (nano, or --model) transcribes silence, noise of three colours and four loudnesses, tones
and tunes, and the sounds of a manifest (for example ESC-10); all of its words there are invented.
The held-out clips, as loud as they are and up to 30 dB softer after a loud one, tell how much
speech is taken for none. Both are measured with the default `min_logprob` and with all that was
written.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from held_out import held_out
from jiwer import process_words
from torch import Tensor

from tiny_audio.infer.results import Transcript
from tiny_audio.infer.transcriber import AS_WRITTEN, PLAIN, Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, Audio, load_audio

LENGTH = 20 * SAMPLE_RATE
SOFTER_DB = (0, 10, 20, 30)


def noise(falling: float, generator: torch.Generator) -> Tensor:
    """Noise whose power falls with frequency to the power of 2 × `falling`; its peak is 1."""
    spectrum = torch.fft.rfft(torch.randn(LENGTH, generator=generator))
    bins = torch.arange(len(spectrum)).clamp_min(1)
    samples_N = torch.fft.irfft(spectrum / bins**falling, LENGTH)
    return samples_N / samples_N.abs().max()


def tune(seed: int) -> Tensor:
    """Plucked notes of a major scale, four a second."""
    chance, samples_N = random.Random(seed), torch.zeros(LENGTH + SAMPLE_RATE)
    t = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    for start in range(0, LENGTH, SAMPLE_RATE // 4):
        pitch_hz = 220 * 2 ** (chance.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        note = 0.3 * torch.exp(-4 * t) * torch.sin(2 * torch.pi * pitch_hz * t)
        samples_N[start : start + len(t)] += note
    return samples_N[:LENGTH]


def made_sounds() -> Iterator[tuple[str, Tensor]]:
    generator, t = torch.Generator().manual_seed(0), torch.arange(LENGTH) / SAMPLE_RATE
    yield "silence", torch.zeros(LENGTH)
    for name, falling in (("white", 0.0), ("pink", 0.5), ("brown", 1.0)):
        for level in (0.5, 0.05, 0.005, 0.0005):
            yield f"{name} noise", level * noise(falling, generator)
    for pitch_hz in (110, 220, 440, 880):
        yield "tones", 0.2 * torch.sin(2 * torch.pi * pitch_hz * t)
    for seed in range(4):
        yield "tunes", tune(seed)


def recorded(manifest: Path, every: int) -> Iterator[tuple[str, Tensor]]:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()][::every]
    for row in rows:
        yield row["label"], load_audio(manifest.parent / row["audio"]).samples


def invented(
    transcriber: Transcriber, sounds: list[tuple[str, Tensor]], request: Request
) -> dict[str, Any]:
    minutes, words, ended = defaultdict[str, float](float), defaultdict[str, int](int), 0
    sources = [Audio(samples_N, SAMPLE_RATE) for _, samples_N in sounds]
    for (name, _), made in zip(sounds, transcriber.transcribe_many(sources, request), strict=True):
        assert isinstance(made, Transcript), made
        ended += made.outcome == "no_speech"
        for key in (name, "all"):
            minutes[key] += made.duration_s / 60
            words[key] += len(made.words)
    rates = {name: round(words[name] / minutes[name], 2) for name in minutes}
    return {"words_a_minute": rates, "sounds": len(sounds), "no_speech": ended / len(sounds)}


def lost(transcriber: Transcriber, num_clips: int, min_logprob: float | None) -> dict[str, Any]:
    """Words that were said and not written, by how much softer they are than the clip before."""
    clips, pause_N, rows = held_out(num_clips), torch.zeros(SAMPLE_RATE // 2), {}
    for softer_db in SOFTER_DB:
        scales = [1.0, 10 ** (-softer_db / 20)] * num_clips
        parts = [
            part
            for clip, by in zip(clips, scales, strict=False)
            for part in (clip.samples_N * by, pause_N)
        ]
        made = transcriber.transcribe(
            torch.cat(parts), sampling_rate=SAMPLE_RATE, min_logprob=min_logprob
        )
        found = process_words(" ".join(clip.text for clip in clips), made.text)
        rows[f"{softer_db} dB"] = {"wer": found.wer, "deleted": found.deletions}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sounds", type=Path, help="manifest of recordings without speech")
    parser.add_argument("--every", type=int, default=1, help="take every so many of them")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    asked = parser.parse_args()
    transcriber = Transcriber.from_pretrained(asked.model)
    made, found, result = list(made_sounds()), list[tuple[str, Tensor]](), {}
    if asked.sounds:
        found = list(recorded(asked.sounds, asked.every))
    for name, request in (("default", PLAIN), ("as written", AS_WRITTEN)):
        result[name] = {
            "made": invented(transcriber, made, request),
            "recorded": invented(transcriber, found, request) if found else None,
            "speech": lost(transcriber, asked.clips, request.min_logprob),
        }
        print(json.dumps({name: result[name]}), file=sys.stderr, flush=True)
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
