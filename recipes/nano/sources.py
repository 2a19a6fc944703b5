"""The sources of nano's clips: texts, voices, and real recordings with their splits."""

from __future__ import annotations

import functools
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from recipes.nano.sentences import book_spans, domain_sentence, is_held_out
from recipes.nano.shards import open_store, write_shard
from recipes.nano.synth import Voice, held_out_voice, training_voice
from tiny_audio.data.manifest import read_manifest
from tiny_audio.files import write_text
from tiny_audio.model.audio import load_audio

HELD_OUT_DIGIT_SPEAKER = "theo"
NUM_HELD_OUT_READERS = 25
SPLIT_SEED = 762


def shared_data() -> Path:
    """Return the folder of the real recordings; `TINY_AUDIO_DATA` names another one."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("TINY_AUDIO_DATA", default))


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of one of the shared sets."""
    manifest = read_manifest(shared_data() / name / "train.jsonl")
    for reason, count in manifest.skipped.items():
        print(f"{name}: {count} rows skipped: {reason}")
    return manifest.rows


def held_out_readers(speakers: set[str]) -> set[str]:
    """The 25 speechocean762 speakers that nothing is trained on."""
    return set(random.Random(SPLIT_SEED).sample(sorted(speakers), NUM_HELD_OUT_READERS))


def real_rows(name: str, held_out: bool) -> list[dict[str, Any]]:
    """Rows of `fsdd` or `speechocean762`, only the held-out speakers or only the others."""
    rows = rows_of(name)
    if name == "fsdd":
        apart = {HELD_OUT_DIGIT_SPEAKER}
    else:
        apart = held_out_readers({row["speaker"] for row in rows})
    return [row for row in rows if (row["speaker"] in apart) == held_out]


def write_real(folder: Path, name: str, held_out: bool) -> int:
    """Decode one set to a shard of 16 kHz samples; returns its number of clips.

    FOLDER.jsonl beside it names the recordings with all their columns, for evaluations.
    """
    rows = real_rows(name, held_out)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(folder.with_suffix(".jsonl"), "\n".join(lines) + "\n")
    if (folder / "shard-00000.jsonl").exists():
        return len(open_store(folder))
    clips = [_decode(row["audio"]) for row in rows]
    kept = [
        {"text": row["text"], "kind": name, "speaker": f"{name}:{row['speaker']}"} for row in rows
    ]
    write_shard(folder, 0, clips, kept)
    return len(clips)


def _decode(path: str) -> np.ndarray:
    samples = load_audio(path).samples.numpy()
    return np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)


@functools.cache
def book_texts() -> list[str]:
    """Return spans of all books, each once, without the held-out ones."""
    folder = shared_data() / "text" / "gutenberg"
    spans = (s for path in sorted(folder.glob("*.txt")) for s in book_spans(path))
    return [s for s in dict.fromkeys(spans) if not is_held_out(s)]


@functools.cache
def reader_texts() -> list[str]:
    """Return the texts that the speechocean762 training speakers read."""
    counts = Counter(row["text"] for row in real_rows("speechocean762", held_out=False))
    return [text for text in counts if not is_held_out(text)]


OPEN_KINDS = ("book", "reader")
BOOK_SHARE, READER_SHARE = 0.36, 0.06


def training_text(rng: random.Random) -> tuple[str, str]:
    """A sentence to train on and its kind: domain, book span or speechocean762 text."""
    draw = rng.random()
    if draw < BOOK_SHARE:
        return rng.choice(book_texts()), "book"
    if draw < BOOK_SHARE + READER_SHARE:
        return rng.choice(reader_texts()), "reader"
    while True:
        text, kind = domain_sentence(rng)
        if not is_held_out(text):
            return text, kind


def unread_text(rng: random.Random) -> tuple[str, str]:
    """A text that no reader of speechocean762 reads: mostly spans of books."""
    text, kind = training_text(rng)
    while kind == "reader" or (kind != "book" and rng.random() < 0.7):
        text, kind = training_text(rng)
    return text, kind


def held_out_sentence(rng: random.Random) -> tuple[str, str]:
    """Draw a domain sentence that is no training text (one to three words may be)."""
    while True:
        text, kind = domain_sentence(rng)
        if len(text.split()) < 4 or is_held_out(text):
            return text, kind


def training_plan(seed: int, index: int) -> tuple[str, str, Voice]:
    rng = random.Random(f"train/{seed}/{index}")
    return *training_text(rng), training_voice(rng)


def open_plan(seed: int, index: int) -> tuple[str, str, Voice]:
    """Open sentences alone: spans of books, and what the speechocean762 training speakers read."""
    rng = random.Random(f"open/{seed}/{index}")
    text, kind = training_text(rng)
    while kind not in OPEN_KINDS:
        text, kind = training_text(rng)
    return text, kind, training_voice(rng)


def held_out_plan(seed: int, index: int) -> tuple[str, str, Voice]:
    """Plan a held-out clip. Short sentences pass the filter too often, so most are skipped."""
    rng = random.Random(f"held-out/{seed}/{index}")
    text, kind = held_out_sentence(rng)
    while len(text.split()) < 4 and rng.random() > 0.04:
        text, kind = held_out_sentence(rng)
    return text, kind, held_out_voice(rng)
