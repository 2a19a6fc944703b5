"""Speech from text with espeak-ng, flite and festival: each clip is a function of (seed, index).

A shard is a file of int16 samples at 16 kHz and a JSONL file with one row a clip; shards are
written apart and renamed when whole, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import io
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tiny_audio.data.cache import write_shard

SAMPLE_RATE = 16_000
MAX_CLIP_S = 10.0
ACCENTS = "en-us en-gb en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-029 en-us-nyc".split()
VARIANTS = (
    "f1 f3 f4 f5 m1 m2 m3 m5 m6 m7 m8 klatt klatt2 klatt3 klatt4 Alex Alicia Andrea Andy Annie "
    "Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Michael Mike Nguyen adam anika antonio "
    "aunty belinda benjamin boris caleb david ed edward edward2 grandpa iven iven2 marcelo max "
    "michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 travis "
    "victor zac"
).split()
HELD_OUT_ACCENT = "en-gb-x-gbcwmd"
HELD_OUT_VARIANTS = "f2 m4 linda john Mario grandma".split()
HELD_OUT_FLITE = "rms"
FLITE_VOICES = ["slt", "slt", "awb", "awb", "kal16", "kal"]
FESTIVAL_VOICES = ["cmu_us_slt_arctic_hts", "ked_diphone"]
ENGINES = {"espeak": 0.5, "flite": 0.4, "festival": 0.1}


@dataclass(frozen=True)
class Voice:
    """How a clip is spoken. `rate` is a tempo factor, `pitch` an offset in -1..1."""

    engine: str
    name: str
    rate: float = 1.0
    pitch: float = 0.0

    @property
    def speaker(self) -> str:
        return f"{self.engine}:{self.name}"


def training_voice(rng: random.Random) -> Voice:
    engine = rng.choices(list(ENGINES), list(ENGINES.values()))[0]
    if engine == "espeak":
        variant = rng.choice(VARIANTS) if rng.random() < 0.9 else ""
        name = rng.choice(ACCENTS) + (f"+{variant}" if variant else "")
    else:
        name = rng.choice(FLITE_VOICES if engine == "flite" else FESTIVAL_VOICES)
    return Voice(engine, name, _rate(rng), rng.uniform(-1, 1))


def held_out_voice(rng: random.Random) -> Voice:
    """A third each: an unheard accent, unheard variants, an unheard flite voice."""
    name = rng.choice(
        [
            f"{HELD_OUT_ACCENT}+{rng.choice(['m3', 'f3', 'm7', 'f4', 'klatt2'])}",
            f"{rng.choice(ACCENTS)}+{rng.choice(HELD_OUT_VARIANTS)}",
            HELD_OUT_FLITE,
        ]
    )
    engine = "flite" if name == HELD_OUT_FLITE else "espeak"
    return Voice(engine, name, _rate(rng), rng.uniform(-0.6, 0.6))


def _rate(rng: random.Random) -> float:
    return min(max(rng.gauss(1.0, 0.15), 0.7), 1.35)


def speak(text: str, voice: Voice) -> np.ndarray:
    """int16 samples at 16 kHz; raises `CalledProcessError` when the engine fails."""
    if voice.engine == "festival":
        return speak_festival([(text, voice)])[0]
    if voice.engine == "espeak":
        command = ["espeak-ng", "-v", voice.name, "-s", str(round(165 * voice.rate))]
        command += ["-p", str(round(50 + 30 * voice.pitch)), "--stdout", text]
        return _to_samples(subprocess.run(command, capture_output=True, check=True).stdout)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        command = ["flite", "-voice", voice.name, "-t", text, "-o", file.name]
        command += ["--setf", f"duration_stretch={1 / voice.rate:.3f}"]
        base_hz = 175 if voice.name == "slt" else 110
        command += ["--setf", f"int_f0_target_mean={base_hz * (1 + 0.2 * voice.pitch):.1f}"]
        subprocess.run(command, capture_output=True, check=True)
        return _to_samples(Path(file.name).read_bytes())


def speak_festival(jobs: list[tuple[str, Voice]]) -> list[np.ndarray]:
    """Many clips in one process: festival needs about 0.5 s to start."""
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for index, (text, voice) in enumerate(jobs):
            lines += [
                f"(voice_{voice.name})",
                f"(Parameter.set 'Duration_Stretch {1 / voice.rate})",
            ]
            target = f"{folder}/{index}.wav"
            lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{target}")')
        script = Path(folder) / "speak.scm"
        script.write_text("\n".join(lines))
        subprocess.run(["festival", "-b", str(script)], capture_output=True, check=True)
        return [_to_samples(Path(f"{folder}/{i}.wav").read_bytes()) for i in range(len(jobs))]


def _to_samples(wav: bytes) -> np.ndarray:
    """Decode; espeak's stdout header states a length of 2 GB, which soundfile reads to the end."""
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    peak = float(np.abs(samples).max(initial=1e-4))
    return np.round(samples * (0.6 * 32767 / peak)).astype(np.int16)


Plan = Callable[[int], tuple[str, str, Voice]]  # index -> text, kind, voice


def write_speech_shard(folder: Path, shard: int, indices: Iterable[int], plan: Plan) -> int:
    """Speak one shard's clips; clips longer than 10 s are left out. Returns the number kept."""
    jobs = [(index, *plan(index)) for index in indices]
    slow = [(text, voice) for _, text, _, voice in jobs if voice.engine == "festival"]
    queue = iter(speak_festival(slow) if slow else [])
    clips, rows = [], []
    for index, text, kind, voice in jobs:
        samples = next(queue) if voice.engine == "festival" else speak(text, voice)
        if 1_600 <= len(samples) <= MAX_CLIP_S * SAMPLE_RATE:
            clips.append(samples)
            rows.append({"text": text, "kind": kind, "speaker": voice.speaker, "index": index})
    write_shard(folder, shard, clips, rows)
    return len(clips)


def write_speech(
    folder: Path, num_clips: int, plan: Plan, first_shard: int = 0, shard_size: int = 1000
) -> int:
    """Speak `num_clips` clips with two processes; finished shards are kept. Returns the total."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(first_shard, first_shard + -(-num_clips // shard_size))
    todo = [s for s in shards if not (folder / f"shard-{s:05d}.jsonl").exists()]
    with ProcessPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                write_speech_shard, folder, s, range(s * shard_size, (s + 1) * shard_size), plan
            )
            for s in todo
        ]
        return sum(job.result() for job in jobs)
