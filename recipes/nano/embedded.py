"""The embedded corpus of `tiny-audio quickstart`, made by `python -m recipes.nano.embedded`.

Our own sentences spoken by espeak-ng, flite and festival, as Ogg Opus. `train` has voices that
`held-out` has not; no sentence of four words or more is in both.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import soundfile

from recipes.nano.sources import OPEN_KINDS, held_out_plan, training_plan
from recipes.nano.synth import Plan, check_programs, speak
from tiny_audio.data.manifest import write_manifest
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.progress import progress
from tiny_audio.train.experiments import EMBEDDED

FOLDER = EMBEDDED
SEED = 2026
COMPRESSION = 0.97  # about 15 kbit/s
MIN_S, MAX_S = 0.8, 4.5
ENGINES = ("espeak", "flite", "festival")  # SVOX Pico is not in Debian proper


def make_clip(index: int, folder: Path, plan: Plan) -> dict[str, Any] | None:
    """Speak and write one clip; return None if its length, engine or kind does not fit."""
    text, kind, voice = plan(index)
    if kind in OPEN_KINDS or voice.engine not in ENGINES:
        return None
    samples = speak(text, voice)
    if not MIN_S <= len(samples) / SAMPLE_RATE <= MAX_S:
        return None
    path = folder / f"{index:05d}.opus"
    soundfile.write(path, samples, SAMPLE_RATE, "OPUS", format="OGG", compression_level=COMPRESSION)
    duration_s = round(len(samples) / SAMPLE_RATE, 3)
    return {"audio": path.name, "text": text, "speaker": voice.speaker, "duration": duration_s}


def make(folder: Path, plan: Plan, num_clips: int) -> None:
    """Write the first `num_clips` usable clips of a plan, with their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    job = functools.partial(make_clip, folder=folder, plan=plan)
    with ProcessPoolExecutor(2) as pool, progress() as bar:
        task = bar.add_task(folder.name, total=num_clips)
        start = 0
        while len(rows) < num_clips:
            rows += filter(None, pool.map(job, range(start, start + 200), chunksize=10))
            start += 200
            bar.update(task, completed=len(rows))
    for row in rows[num_clips:]:
        (folder / row["audio"]).unlink()
    write_manifest(folder / "manifest.jsonl", rows[:num_clips])
    size = sum(path.stat().st_size for path in folder.iterdir())
    digest = hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest()[:12]
    print(f"{folder.name}: {num_clips} clips, {size:,} bytes, manifest {digest}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.nano.embedded", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--train", type=int, default=2400)
    parser.add_argument("--held-out", type=int, default=300)
    arguments = parser.parse_args()
    check_programs(ENGINES)
    make(arguments.folder / "train", functools.partial(training_plan, SEED), arguments.train)
    make(arguments.folder / "held-out", functools.partial(held_out_plan, SEED), arguments.held_out)


if __name__ == "__main__":
    main()
