"""Seconds, bytes and word errors of transcribing; every function runs in a fresh process."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from training_parts.plain import WINDOW_S, with_long_window
from training_parts.watch import resident

from tiny_audio.data.text import clean
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.generation import Written, token_limit, write
from tiny_audio.model.modeling import as_features
from tiny_audio.train.experiments import EMBEDDED
from tiny_audio.train.recipe import Stage

Row = dict[str, Any]
Way = Callable[[], list[list[int]]]  # transcribes the clips; their tokens
HELD_OUT = EMBEDDED / "held-out"


def mixed(clips: int, repetitions: int, threads: int) -> Row:
    """Clips of mixed lengths, as one batch and one by one, ours and plain."""
    begin(threads)
    transcriber = Transcriber.from_pretrained("nano", check=False)
    heard = [samples for samples, _ in held_out(300)[:: 300 // clips]][:clips]
    ways: dict[str, Way] = {
        "plain, one by one": lambda: [plain(transcriber, [c])[0].tokens for c in heard],
        "plain, one batch": lambda: tokens(plain(transcriber, heard)),
        "ours, one by one": lambda: [tokens(ours(transcriber, [c]))[0] for c in heard],
        "ours, one batch": lambda: tokens(ours(transcriber, heard)),
    }
    return compared(ways, heard, repetitions)


def short(clips: int, clip_s: float, repetitions: int, threads: int) -> Row:
    """Clips of one length, ours and with `generate` of transformers after padding to 30 s.

    `generate` takes as many steps as our longest answer, so nothing hangs on what it writes.
    """
    begin(threads)
    transcriber = Transcriber.from_pretrained("nano", check=False)
    near = sorted(held_out(300), key=lambda pair: abs(len(pair[0]) / SAMPLE_RATE - clip_s))[:clips]
    heard = [samples for samples, _ in near]
    steps = 1 + max(len(row) for row in tokens(ours(transcriber, heard)))
    wide = Transcriber(with_long_window(transcriber.model, Stage(steps=1)))
    ways: dict[str, Way] = {
        "generate, padded to 30 s": lambda: generated(wide, padded(heard), steps),
        "generate, at true length": lambda: generated(transcriber, heard, steps),
        "ours": lambda: tokens(ours(transcriber, heard)),
    }
    return compared(ways, heard, repetitions) | {"steps": steps}


def variant(options: Row, clips: int, batch: int, repetitions: int, threads: int) -> Row:
    """One way to hold nano's weights: speed, memory, and word errors."""
    begin(threads)
    before = resident("VmRSS")
    if "dtype" in options:
        options = {**options, "dtype": getattr(torch, options["dtype"])}
    transcriber = Transcriber.from_pretrained("nano", check=False, **options)
    pairs = held_out(clips)
    windows = [Window(0, samples) for samples, _ in pairs]
    batches = [windows[at : at + batch] for at in range(0, len(windows), batch)]
    transcriber.transcribe_windows(batches[0])
    written: list[str] = []

    def transcribe() -> None:
        written[:] = [s.text for part in batches for s in transcriber.transcribe_windows(part)]

    spent = [seconds(transcribe) for _ in range(repetitions)]
    audio_s = sum(len(samples) for samples, _ in pairs) / SAMPLE_RATE
    said = [clean(text, "plain") for _, text in pairs]
    scores = word_errors(said, [clean(text, "plain") for text in written])
    wall_s, cpu_s = (min(column) for column in zip(*spent, strict=True))
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "clips_per_s": len(pairs) / wall_s,
        "real_time_factor": wall_s / audio_s,
        "audio_s": audio_s,
        "held_bytes": resident("VmRSS") - before,
        "peak_bytes": resident("VmHWM"),
        **scores,
    }


# transformers' names for a batch of clips, as `as_features` takes them.
FEATURE_KEYS = ("input_features", "input_features_mask", "input_values", "input_values_mask")

# Ways -------------------------------------------------------------------------------------------


def ours(transcriber: Transcriber, clips: Sequence[Tensor]) -> list[Written]:
    return transcriber.write([Window(0, clip) for clip in clips])


@torch.inference_mode()
def plain(transcriber: Transcriber, clips: list[Tensor]) -> list[Written]:
    """One padded batch through the encoder, transformers' forward for every token."""
    model, batch = transcriber.model, processed(transcriber, clips)
    ids, mask = batch.pop("input_ids"), batch.pop("attention_mask")
    features = as_features(*(batch.get(name) for name in FEATURE_KEYS))
    embeds_BLD = model.embed_prompts(ids, features)
    limits = [token_limit(len(clip) / SAMPLE_RATE) for clip in clips]
    return write(model, embeds_BLD, mask, transcriber.processor.stop_ids(), limits, plain=True)


@torch.inference_mode()
def generated(transcriber: Transcriber, clips: list[Tensor], steps: int) -> list[list[int]]:
    """`generate` of transformers, `steps` tokens a clip."""
    batch = processed(transcriber, clips)
    limits = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False}
    made = transcriber.model.generate(**batch, **limits, pad_token_id=0)
    found: list[list[int]] = made[:, batch["input_ids"].shape[1] :].tolist()
    return found


def processed(transcriber: Transcriber, clips: list[Tensor]) -> Any:
    return transcriber.processor(audio=clips, text=None, sampling_rate=SAMPLE_RATE)


def padded(clips: Sequence[Tensor]) -> list[Tensor]:
    return [F.pad(clip, (0, int(WINDOW_S * SAMPLE_RATE) - len(clip))) for clip in clips]


# Measuring --------------------------------------------------------------------------------------


def begin(threads: int) -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(threads)


def held_out(clips: int) -> list[tuple[Tensor, str]]:
    """Samples and text of the embedded corpus's held-out clips."""
    lines = (HELD_OUT / "manifest.jsonl").read_text().splitlines()[:clips]
    rows = [json.loads(line) for line in lines]
    return [(load_audio(HELD_OUT / row["audio"]).samples, row["text"]) for row in rows]


def compared(ways: dict[str, Way], clips: Sequence[Tensor], repetitions: int) -> Row:
    """Every way in turn, again and again, so that other programs slow all of them."""
    written = {name: way() for name, way in ways.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            spent[name].append(seconds(way))
    last = list(ways)[-1]
    rows = {
        name: {
            "wall_s": median(wall for wall, _ in taken),
            "cpu_s": median(cpu for _, cpu in taken),
            "fastest_s": min(wall for wall, _ in taken),
            "same_tokens_as_last": written[name] == written[last],
        }
        for name, taken in spent.items()
    }
    for row in rows.values():
        for unit in ("wall", "cpu"):
            row[f"times_{unit}"] = row[f"{unit}_s"] / rows[last][f"{unit}_s"]
    audio_s = sum(len(clip) for clip in clips) / SAMPLE_RATE
    return {"clips": len(clips), "audio_s": audio_s, "rows": rows}


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall and of all cores."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def tokens(rows: Sequence[Written]) -> list[list[int]]:
    return [row.tokens for row in rows]
