"""Live audio: `uv run python benchmarks/streaming.py`, offline.

Streams held-out clips to nano in blocks of 100 ms, alone and joined with random pauses. How often
the final text is the file's; and how much audio passes from a word's end (by forced alignment)
until it is first shown, in a partial or final result, where it stays.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from held_out import held_out, joined
from torch import Tensor

from tiny_audio.infer.results import Word
from tiny_audio.infer.streaming import Streamer
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import SAMPLE_RATE

BLOCK = SAMPLE_RATE // 10
Shown = list[tuple[float, list[str]]]  # seconds of audio so far, all words shown then


def stream(streamer: Streamer, samples_N: Tensor) -> tuple[str, Shown]:
    """The final text, and what stood on the screen when."""
    state, final, shown, at = streamer.start(), list[str](), Shown(), 0
    for block in [*samples_N.split(BLOCK), None]:
        if block is None:
            events, state = streamer.finish(state)
        else:
            at += len(block)
            events, state = streamer.feed(block, state)
        for event in events:
            words = event.segment.text.split()
            shown.append((at / SAMPLE_RATE, final + words))
            if event.final:
                final = final + words
    return " ".join(final), shown


def latencies(words: Sequence[Word], shown: Shown) -> list[float | None]:
    """Seconds from the end of each word to its first showing at its place; None without a time."""
    found: list[float | None] = []
    for number, word in enumerate(words):
        times = (at for at, texts in shown if texts[number : number + 1] == [word.text])
        at = next(times, None)
        found.append(None if at is None or word.end_s is None else at - word.end_s)
    return found


def report(transcriber: Transcriber, sounds: list[Tensor]) -> dict[str, Any]:
    streamer, equal, delays, first = Streamer(transcriber), 0, list[float](), list[float]()
    started, seconds = time.process_time(), 0.0
    for samples_N in sounds:
        text, shown = stream(streamer, samples_N)
        seconds += len(samples_N) / SAMPLE_RATE
        whole = transcriber.transcribe(samples_N, sampling_rate=SAMPLE_RATE, timestamps="word")
        equal += text == whole.text
        every = latencies(whole.words, shown)
        delays += [delay for delay in every if delay is not None]
        at = 0
        for segment in whole.segments:
            if segment.words and (delay := every[at]) is not None:
                first.append(delay)
            at += len(segment.words)
    return {
        "streams": len(sounds),
        "seconds": seconds,
        "final_equals_file": equal / len(sounds),
        "word_delay_s": {"median": median(delays), "p95": quantile(delays, 0.95)},
        "first_word_delay_s": {
            "median": median(first),
            "p95": quantile(first, 0.95),
            "within_1_s": sum(delay <= 1 for delay in first) / len(first),
        },
        "cpu_times_real_time": seconds / (time.process_time() - started),
    }


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--aligner", type=Path, help="folder of a CTC head, if not nano's own")
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    asked = parser.parse_args()
    clips = held_out(asked.clips)
    transcriber = Transcriber.from_pretrained("nano", head=asked.aligner)
    together = [
        torch.cat([clip.samples_N for clip in joined(clips, 20, seed)])
        for seed in range(asked.clips // 6)
    ]
    result = {
        "alone": report(transcriber, [clip.samples_N for clip in clips]),
        "joined": report(transcriber, together),
    }
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
