"""How exact word times are: `uv run python benchmarks/timestamps.py [--out FOLDER]`, offline.

Sentences that nothing was trained on, spoken by espeak-ng voices that nothing was trained on, and
espeak-ng's own report of when each word begins (`timestamps_parts/espeak.py` says what a word's
time is). nano's encoder and CTC head align the true text with the sound; the errors are those of
word starts and ends.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timestamps_parts.espeak import Truth, speak

from recipes.nano.sources import held_out_sentence
from recipes.nano.synth import Voice, held_out_voice
from tiny_audio.infer.results import Word
from tiny_audio.infer.timestamps import Aligner, load_aligner
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.presets import load
from tiny_audio.progress import progress

RESULTS = Path(__file__).resolve().parent / "timestamps"
SEED = 6  # the 50 ms of `timestamps.LATE_S` were measured with 5
GOAL_MS = 60
LEAST_WORDS, LONGEST_S = 4, 9.0


def sentences(count: int) -> Iterator[tuple[str, Voice]]:
    """Texts of four words and more with unheard espeak-ng voices."""
    rng, made = random.Random(f"timestamps/{SEED}"), 0
    while made < count:
        text, voice = held_out_sentence(rng)[0], held_out_voice(rng)
        if voice.engine == "espeak" and len(text.split()) >= LEAST_WORDS:
            made += 1
            yield text, voice


def measure(aligner: Aligner, count: int) -> dict[str, Any]:
    """Errors in milliseconds (found minus true) of all words whose times are known."""
    errors: dict[str, list[float]] = {"start": [], "end": []}
    num_words = num_aligned = 0
    spent_s = audio_s = 0.0
    with progress() as bar:
        for text, voice in bar.track(list(sentences(count)), description="aligning"):
            samples, truth = speak(text, voice)
            if len(samples) > LONGEST_S * SAMPLE_RATE:
                continue
            began_s = time.perf_counter()
            words = aligner.words(torch.from_numpy(samples), text)
            spent_s += time.perf_counter() - began_s
            audio_s += len(samples) / SAMPLE_RATE
            num_words += len(words)
            num_aligned += sum(word.start_s is not None for word in words)
            collect(errors, words, truth)
    shares = {"words": num_words, "aligned": num_aligned / num_words}
    return {
        **shares,
        **{name: summary(of) for name, of in errors.items()},
        "rtf": spent_s / audio_s,
    }


def collect(errors: dict[str, list[float]], words: tuple[Word, ...], truth: list[Truth]) -> None:
    for word, true in zip(words, truth, strict=True):
        for name, found_s, true_s in (
            ("start", word.start_s, true.start_s),
            ("end", word.end_s, true.end_s),
        ):
            if found_s is not None and true_s is not None:
                errors[name].append(1000 * (found_s - true_s))


def summary(errors_ms: list[float]) -> dict[str, float]:
    """Of absolute errors, and (`bias`) of signed ones."""
    off = np.abs(errors_ms)
    return {
        "measured": len(errors_ms),
        "median_ms": round(float(np.median(off)), 1),
        "p90_ms": round(float(np.percentile(off, 90)), 1),
        "within_100_ms": round(float((off <= 100).mean()), 3),
        "bias_ms": round(float(np.median(errors_ms)), 1),
    }


def about(sentences: int) -> dict[str, Any]:
    """Where and of what the figures are."""
    git = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "sentences": sentences,
        "goal_ms": GOAL_MS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/timestamps.py", description=__doc__)
    parser.add_argument("--model", default="nano", help="or a checkpoint folder")
    parser.add_argument("--aligner", type=Path, help="another CTC head")
    parser.add_argument("--sentences", type=int, default=120)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load(arguments.model).eval()
    result = {
        **about(arguments.sentences),
        **measure(load_aligner(model, arguments.aligner), arguments.sentences),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
