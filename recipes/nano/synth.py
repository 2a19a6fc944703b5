"""Speech from text with espeak-ng, flite, festival and SVOX Pico.

Each clip is a function of (seed, index). A shard is a file of int16 samples at 16 kHz and a JSONL
file with one row a clip; shards appear when they are whole, so an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from recipes.nano.shards import write_shard
from tiny_audio.files import read_json, write_json
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError
from tiny_audio.progress import progress

MIN_CLIP_S, MAX_CLIP_S = 0.1, 10.0
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
PICO_VOICES = ["en-US", "en-GB"]
ENGINES = {"espeak": 0.45, "flite": 0.3, "pico": 0.2, "festival": 0.05}
PROGRAMS = {  # of each engine, and its Debian packages
    "espeak": ("espeak-ng", "espeak-ng"),
    "flite": ("flite", "flite"),
    "festival": ("festival", "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"),
    "pico": ("pico2wave", "libttspico-utils (in non-free)"),
}
NATURAL = {"flite": FLITE_VOICES, "festival": FESTIVAL_VOICES, "pico": PICO_VOICES}


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
        name = rng.choice(NATURAL[engine])
    return Voice(engine, name, _rate(rng), rng.uniform(-1, 1))


def held_out_voice(rng: random.Random) -> Voice:
    """Draw a voice: a third each of an unseen accent, unseen variants, an unseen flite voice."""
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
    """int16 samples at 16 kHz; `CalledProcessError` when the engine fails, OSError without it."""
    if voice.engine == "festival":
        return speak_festival([(text, voice)])[0]
    if voice.engine == "espeak":
        command = ["espeak-ng", "-v", voice.name, "-s", str(round(165 * voice.rate))]
        command += ["-p", str(round(50 + 30 * voice.pitch)), "--stdout", text]
        return _to_samples(subprocess.run(command, capture_output=True, check=True).stdout)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        make = pico_command if voice.engine == "pico" else flite_command
        subprocess.run(make(text, voice, file.name), capture_output=True, check=True)
        return _to_samples(Path(file.name).read_bytes())


def flite_command(text: str, voice: Voice, target: str) -> list[str]:
    base_hz = 175 if voice.name == "slt" else 110
    return [
        *["flite", "-voice", voice.name, "-t", text, "-o", target],
        *["--setf", f"duration_stretch={1 / voice.rate:.3f}"],
        *["--setf", f"int_f0_target_mean={base_hz * (1 + 0.2 * voice.pitch):.1f}"],
    ]


def pico_command(text: str, voice: Voice, target: str) -> list[str]:
    """Return the command for SVOX Pico, in its own markup, where 100 means as recorded."""
    pitch, speed = round(100 + 25 * voice.pitch), round(100 * voice.rate)
    marked = f"<pitch level='{pitch}'><speed level='{speed}'>{text}</speed></pitch>"
    return ["pico2wave", "-l", voice.name, "-w", target, marked]


def speak_festival(jobs: list[tuple[str, Voice]]) -> list[np.ndarray]:
    """Speak many clips in one process, since festival needs about 0.5 s to start."""
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
    """Decode a WAV. espeak's header states 2 GB; soundfile then reads to the end."""
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE)
    peak = float(np.abs(samples).max(initial=1e-4))
    return np.round(samples * (0.6 * 32767 / peak)).astype(np.int16)


Plan = Callable[[int], tuple[str, str, Voice]]  # index -> text, kind, voice


def write_speech_shard(
    folder: Path, shard: int, indices: Iterable[int], plan: Plan
) -> Counter[str]:
    """Speak one shard's clips. Returns how many were kept, and left out for which reason."""
    jobs = [(index, *plan(index)) for index in indices]
    slow = [(text, voice) for _, text, _, voice in jobs if voice.engine == "festival"]
    queue = iter(speak_festival(slow) if slow else [])
    counts, clips, rows = Counter[str](), [], []
    for index, text, kind, voice in jobs:
        samples = next(queue) if voice.engine == "festival" else speak(text, voice)
        outcome = length_problem(len(samples)) or "kept"
        counts[outcome] += 1
        if outcome == "kept":
            clips.append(samples)
            rows.append({"text": text, "kind": kind, "speaker": voice.speaker, "index": index})
    write_shard(folder, shard, clips, rows)
    return counts


def length_problem(num_samples: int) -> str | None:
    """Say why nano's encoder cannot use a clip of this length; None if it can."""
    if num_samples < MIN_CLIP_S * SAMPLE_RATE:
        return f"shorter than {MIN_CLIP_S} s"
    return f"longer than {MAX_CLIP_S} s" if num_samples > MAX_CLIP_S * SAMPLE_RATE else None


def write_speech(
    folder: Path, num_clips: int, plan: Plan, about: dict[str, Any], shard_size: int = 1000
) -> Counter[str]:
    """Speak `num_clips` clips (whole shards) with two processes; finished shards are kept.

    `about` says what the plan depends on, at least its `engines`; shards of another one are a
    `ConfigError`.
    """
    check_programs(about["engines"])
    check_plan(folder, about)
    shards = range(-(-num_clips // shard_size))
    todo = [s for s in shards if not (folder / f"shard-{s:05d}.jsonl").exists()]
    with ProcessPoolExecutor(2) as pool:
        jobs = []
        for shard in todo:
            indices = range(shard * shard_size, (shard + 1) * shard_size)
            jobs.append(pool.submit(write_speech_shard, folder, shard, indices, plan))
        counts = Counter[str]()
        with progress() as bar:
            for job in bar.track(jobs, description="speaking, in shards"):
                counts += job.result()
        return counts


def check_programs(engines: Iterable[str]) -> None:
    """Refuse to begin without one of the speech programs."""
    missing = [PROGRAMS[engine] for engine in engines if not shutil.which(PROGRAMS[engine][0])]
    if missing:
        names, packages = (", ".join(part) for part in zip(*missing, strict=True))
        raise ConfigError(f"The corpus needs {names}. Install the Debian package(s) {packages}.")


def check_plan(folder: Path, about: dict[str, Any]) -> None:
    """Refuse to add clips to a folder of another plan."""
    folder.mkdir(parents=True, exist_ok=True)
    note, wanted = folder / "about.json", json.loads(json.dumps(about))
    if not any(folder.glob("shard-*.jsonl")):
        write_json(note, about)
    cure = f"Delete {folder}, or give another --folder."
    found = read_json(note, cure) if note.exists() else None
    if found != wanted:
        raise ConfigError(
            f"{folder} holds clips of another plan ({found}, now {wanted}). Delete it, or give "
            f"another --folder."
        )
