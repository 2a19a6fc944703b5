"""Clips and questions to train on: what sounds, how somebody speaks, and which note is higher.

Writes train.jsonl, one test manifest and one task file for each question. Labels are exact, because
the sounds are made here; the speech is that of the quickstart, played slower or faster.
"""

import json
import random
from pathlib import Path

import numpy as np
import soundfile
from options import options

import tiny_audio
from tiny_audio import load_audio

RATE = 16_000
ASKED = {
    "describe": "What makes this sound?",
    "mood": "Does the speaker sound calm or hurried?",
    "higher": "Which note is higher, <audio> or <audio>?",
}
SOUNDS = ("rising tone", "falling tone", "noise", "clicks")
NUM_TRAIN, NUM_TEST = 320, 40
SPEECH = Path(tiny_audio.__file__).parent / "data" / "quickstart"
args = options(__doc__, scales=False)
random_of = np.random.default_rng(0)


def sound(kind: str) -> np.ndarray:
    """One to two seconds of one of the four sounds."""
    time_s = np.arange(int(RATE * random_of.uniform(1, 2))) / RATE
    low, high = np.sort(random_of.uniform(200, 3000, 2))
    high += 500
    if kind == "noise":
        return random_of.normal(0, 0.1, len(time_s))
    if kind == "clicks":
        return 0.5 * (time_s % random_of.uniform(0.08, 0.3) < 0.002)
    start, end = (low, high) if kind == "rising tone" else (high, low)
    hertz = np.linspace(start, end, len(time_s))
    return 0.2 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)


def note(hertz: float) -> np.ndarray:
    """A second of a plucked string: harmonics that die away."""
    time_s = np.arange(RATE) / RATE
    parts = [np.sin(2 * np.pi * n * hertz * time_s) / n for n in range(1, 6)]
    return 0.2 * np.sum(parts, axis=0) * np.exp(-3 * time_s)


def describe(rows: list[dict]) -> tuple[list[np.ndarray], str]:
    kind = SOUNDS[len(rows) % len(SOUNDS)]
    return [sound(kind)], kind


def mood(rows: list[dict]) -> tuple[list[np.ndarray], str]:
    """Played slower, a voice drawls; played faster, it hurries. An actor would do it better."""
    spoken = speech[len(rows) % len(speech)]
    samples = load_audio(SPEECH / spoken["folder"] / spoken["audio"]).samples.numpy()
    word, speed = (("calm", 0.75), ("hurried", 1.4))[int(random_of.integers(2))]
    places = np.arange(0, len(samples) - 1, speed)
    return [np.interp(places, np.arange(len(samples)), samples)], word


def higher(rows: list[dict]) -> tuple[list[np.ndarray], str]:
    tuning = random_of.normal(0, 0.1)  # a tenth of a semitone: no two strings are tuned alike
    first, second = 110 * 2 ** ((random_of.choice(36, 2, replace=False) + tuning) / 12)
    return [note(first), note(second)], "first" if first > second else "second"


def spoken_in(folder: str) -> list[dict]:
    lines = (SPEECH / folder / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"folder": folder} for line in lines]
    random.Random(0).shuffle(rows)
    return rows


def written(rows: list[dict], name: str) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (args.out / f"{name}.jsonl").write_text(text)


train = []
for folder, number in {"train": NUM_TRAIN, "held-out": NUM_TEST}.items():
    speech = spoken_in(folder)  # of other voices in the test
    for task, make in {"describe": describe, "mood": mood, "higher": higher}.items():
        rows: list[dict] = []
        while len(rows) < number:
            clips, answer = make(rows)
            names = [f"{folder}-{task}-{len(rows)}{'ab'[n]}.flac" for n in range(len(clips))]
            for name, samples in zip(names, clips, strict=True):
                soundfile.write(args.out / name, samples.clip(-1, 1), RATE)
            audio = names if len(names) > 1 else names[0]
            row = {"audio": audio, "text": answer, "label": answer, "task": task}
            rows.append(row | {"prompt": ASKED[task]})
        if folder == "held-out":
            written(rows, task)
            classes = {row["text"]: [] for row in rows}
            about = {"kind": "classification", "target": "label", "prompt": ASKED[task]}
            (args.out / f"{task}.json").write_text(json.dumps(about | {"classes": classes}))
        else:
            train += rows
# A model that learns to answer forgets to transcribe, unless it goes on doing both.
for row in spoken_in("train")[:NUM_TRAIN]:
    train.append({"audio": str(SPEECH / "train" / row["audio"]), "text": row["text"]})
random.Random(0).shuffle(train)
written(train, "train")
print(f"{args.out / 'train.jsonl'}: {len(train):,} rows; and {NUM_TEST} to test each question")
