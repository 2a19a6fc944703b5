"""The corpus as shards of some 500 clips: `python -m recipes.tiny.corpus hibari --clips 20000`.

A shard is int16 samples at 16 kHz (NAME.npy) and one row a clip (NAME.jsonl, written last). Run it
again and it goes on after the last whole shard; training takes up new shards while it runs.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import soxr

from recipes.nano.sources import real_rows, shared_data
from recipes.tiny.paths import CORPUS
from recipes.tiny.texts import Texts, cased, write_lines
from recipes.tiny.voices import SPEAKERS, Speaker
from tiny_audio.model.audio import SAMPLE_RATE, load_audio

SHARD, MOST_S, MOST_CHARS_PER_S = 500, 20.0, 32
SMALL = {"kokoro": 100}  # clips a shard, where 500 take long
REAL = ("speechocean762", "fsdd")


def write_shard(path: Path, clips: list[np.ndarray], rows: list[dict[str, object]]) -> None:
    """Write samples first and rows last, so a shard with rows is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), np.concatenate(clips))
    counted = [{**row, "n": len(clip)} for row, clip in zip(rows, clips, strict=True)]
    write_lines(path.with_suffix(".jsonl"), counted)


def write_spoken(engine: str, number: int, seed: int, texts: Texts, speaker: Speaker) -> None:
    """Write one shard of one engine; texts are left out if the sound is too short or too long."""
    path = CORPUS / "shards" / f"{engine}-{seed}-{number:03d}"
    if path.with_suffix(".jsonl").exists():
        return
    rng = random.Random(f"{engine}/{seed}/{number}")
    clips: list[np.ndarray] = []
    rows: list[dict[str, object]] = []
    size, left_out = SMALL.get(engine, SHARD), 0
    while len(rows) < size:
        text, kind = texts.draw(rng)
        samples, rate, how = speaker.speak(text, rng)
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
        seconds = len(samples) / SAMPLE_RATE
        if not 0.4 < seconds < MOST_S or len(text) / seconds > MOST_CHARS_PER_S:
            left_out += 1
            continue
        samples *= 0.6 / max(1e-4, np.abs(samples).max())
        clips.append(np.round(samples * 32767).astype(np.int16))
        rows.append({"text": text, "kind": kind, "engine": engine, **how})
    write_shard(path, clips, rows)
    hours = sum(map(len, clips)) / SAMPLE_RATE / 3600
    print(f"{path.name}: {hours:.2f} h, {left_out} texts left out (length)", flush=True)


def write_real(name: str, held_out: bool) -> None:
    """Write speechocean762 or FSDD: its training speakers, or the held-out ones."""
    path = CORPUS / ("held" if held_out else "shards") / f"{name}-0-000"
    rows = real_rows(name, held_out)
    clips = [to_int16(load_audio(row["audio"]).samples.numpy()) for row in rows]
    kept = ("speaker", "age", "gender")
    write_shard(
        path,
        clips,
        [
            {"text": cased(row["text"]), "engine": name, **{k: row.get(k) for k in kept}}
            for row in rows
        ],
    )


def to_int16(samples_N: np.ndarray) -> np.ndarray:
    return np.round(np.clip(samples_N, -1, 1) * 32767).astype(np.int16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=[*SPEAKERS, "real"])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.engine == "real":
        for name in REAL:
            for held_out in (False, True):
                write_real(name, held_out)
        return
    texts = Texts(shared_data())
    speaker = SPEAKERS[options.engine]()
    for number in range(options.clips // SMALL.get(options.engine, SHARD)):
        write_spoken(options.engine, number, options.seed, texts, speaker)


if __name__ == "__main__":
    main()
