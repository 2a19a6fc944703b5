"""Hours in one file: `uv run python benchmarks/long_audio.py --hours 0.5`, offline.

Joins held-out clips with random pauses to one FLAC file, transcribes it and a one-minute file with
nano in processes of their own, and compares peak memory, coverage, and word errors with those of
the same clips alone. Ten hours take about as long as the printed speed says.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfile
from held_out import Clip, held_out, joined
from jiwer import process_words

from tiny_audio.commands import keep_few_kernels
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, Audio

MOST_MORE_MB, MOST_WER_DIFFERENCE = 200.0, 0.005


def write_file(path: Path, clips: list[Clip], seconds: float) -> list[str]:
    """The file, made piece by piece, and what is said in it."""
    said = []
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for clip in joined(clips, seconds):
            file.write(clip.samples_N.numpy())
            said.append(clip.text)
    return said


def transcribe(path: str) -> dict[str, Any]:
    """In a process of its own: a file's text and what it took."""
    made = Transcriber.from_pretrained("nano").transcribe(path)
    return {
        "text": made.text,
        "duration_s": made.duration_s,
        "covered_s": made.covered_s,
        "complete": made.complete,
        "segments": len(made.segments),
        "total_s": made.timings.total_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def alone(clips: list[Clip]) -> dict[str, str]:
    """What nano writes for every clip by itself; clips of one text are kept apart by number."""
    sources = [Audio(clip.samples_N, SAMPLE_RATE) for clip in clips]
    made = Transcriber.from_pretrained("nano").transcribe_many(sources)
    return {c.text: m.text for c, m in zip(clips, made, strict=True)}


def errors(said: list[str], heard: str) -> dict[str, Any]:
    found = process_words(" ".join(said), heard)
    return {
        "wer": found.wer,
        "substituted": found.substitutions,
        "deleted": found.deletions,
        "inserted": found.insertions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        keep_few_kernels()  # as the command does
        print(json.dumps(transcribe(asked.child)))
        return
    clips = [*{clip.text: clip for clip in held_out()}.values()]  # each text once
    with tempfile.TemporaryDirectory() as folder:
        minute, hours = Path(folder) / "minute.flac", Path(folder) / "hours.flac"
        write_file(minute, clips, 60)
        said = write_file(hours, clips, asked.hours * 3600)
        short, long = measured(minute), measured(hours)
    wrote = alone(clips)
    result = {
        "hours": long["duration_s"] / 3600,
        "peak_mb": long["peak_mb"],
        "more_than_a_minute_mb": long["peak_mb"] - short["peak_mb"],
        "covered": long["covered_s"] / long["duration_s"],
        "complete": long["complete"],
        "segments": long["segments"],
        "times_real_time": long["duration_s"] / long["total_s"],
        "joined": errors(said, long["text"]),
        "alone": errors(said, " ".join(wrote[text] for text in said)),
    }
    difference = result["joined"]["wer"] - result["alone"]["wer"]
    result["met"] = {
        "memory": result["more_than_a_minute_mb"] <= MOST_MORE_MB,
        "coverage": abs(result["covered"] - 1) < 1e-6,
        "wer": difference <= MOST_WER_DIFFERENCE,  # better than alone is no fault
    }
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
