"""Clips for evaluation that nothing was trained on: `python -m recipes.tiny.held_out`.

    readers.jsonl   500 sentences of 25 readers of speechocean762 who are in no training set
    voices.jsonl    300 sentences of books and of every day by flite's voice rms, never trained on;
                    true case and marks, none of these sentences was read for training
    native.jsonl    158 prompts of a telephone system, 1,644 words, by one native American speaker
                    (Debian's asterisk-core-sounds-en-g722; what she says is in prompts.tsv)
    long.jsonl      40 windows of up to 29 s: clips of one reader each, with pauses of 0.3 to 1.5 s

Then `tiny-audio eval tiny --dataset runs/tiny/sets/readers.jsonl`, and so on.
"""

import json
import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from recipes.nano.sources import real_rows, shared_data
from recipes.nano.synth import HELD_OUT_FLITE, Voice, speak
from recipes.tiny.games import unpacked
from recipes.tiny.paths import PROMPTS, RUNS
from recipes.tiny.texts import Texts, cased, is_held_out, write_lines
from tiny_audio.model.audio import SAMPLE_RATE, load_audio

SETS = RUNS / "sets"
NUM_VOICES, NUM_LONG = 300, 40
LONGEST_S = 29.0


def write_readers(path: Path) -> None:
    rows = real_rows("speechocean762", held_out=True)
    kept = [{**row, "text": cased(row["text"])} for row in rows]
    write_lines(path, kept)


def write_native(path: Path) -> None:
    """Write a telephone system's prompts. G.722 has no header, so the name tells the format."""
    folder = unpacked("asterisk-core-sounds-en-g722") / "asterisk/sounds/en_US_f_Allison"
    rows = list[dict[str, object]]()
    (path.parent / "native").mkdir(parents=True, exist_ok=True)
    lines = [line for line in PROMPTS.read_text().splitlines() if not line.startswith("#")]
    for number, (name, text) in enumerate(line.split("\t") for line in lines):
        with av.open(str(folder / f"{name}.g722"), format="g722") as file:
            blocks = [frame.to_ndarray().ravel() for frame in file.decode(audio=0)]
        audio = f"native/{number:03d}.flac"
        soundfile.write(path.parent / audio, np.concatenate(blocks), SAMPLE_RATE)
        rows.append({"audio": audio, "text": text, "name": name})
    write_lines(path, rows)


def write_long(path: Path) -> None:
    """Write windows of joined clips, each of one held-out reader, as long as the encoder takes."""
    rng, rows = random.Random(12), list[dict[str, object]]()
    (path.parent / "long").mkdir(parents=True, exist_ok=True)
    given = real_rows("speechocean762", held_out=True)
    speakers = list(dict.fromkeys(row["speaker"] for row in given))
    for number in range(NUM_LONG):
        speaker = speakers[number % len(speakers)]
        clips = [row for row in given if row["speaker"] == speaker]
        rng.shuffle(clips)
        samples, texts = joined(clips, rng)
        name = f"long/{number:03d}.flac"
        soundfile.write(path.parent / name, samples, SAMPLE_RATE)
        rows.append({"audio": name, "text": " ".join(texts), "speaker": speaker})
    write_lines(path, rows)


def joined(rows: list[dict[str, Any]], rng: random.Random) -> tuple[np.ndarray, list[str]]:
    """Return samples and texts of as many rows as fit into LONGEST_S, with pauses between."""
    parts, texts, room = list[np.ndarray](), list[str](), int(LONGEST_S * SAMPLE_RATE)
    for row in rows:
        samples = load_audio(row["audio"]).samples.numpy()
        pause = np.zeros(int(rng.uniform(0.3, 1.5) * SAMPLE_RATE), np.float32)
        if len(samples) + len(pause) > room:
            break
        room -= len(samples) + len(pause)
        parts += [samples, pause]
        texts.append(cased(row["text"]))
    return np.concatenate(parts), texts


def write_voices(path: Path, texts: Texts) -> None:
    """Write held-out sentences of six words and more, spoken at three tempos."""
    rng, rows = random.Random(11), list[dict[str, object]]()
    lines = [t for kind in ("book", "everyday") for t in texts.lists[kind] if is_held_out(t)]
    for number, text in enumerate(rng.sample([t for t in lines if len(t.split()) > 5], NUM_VOICES)):
        voice = Voice("flite", HELD_OUT_FLITE, rng.choice([0.9, 1.0, 1.1]), 0.0)
        name = f"voices/{number:03d}.flac"
        (path.parent / "voices").mkdir(parents=True, exist_ok=True)
        soundfile.write(path.parent / name, speak(text, voice), SAMPLE_RATE)
        rows.append({"audio": name, "text": text, "speaker": voice.speaker})
    write_lines(path, rows)


def main() -> None:
    SETS.mkdir(parents=True, exist_ok=True)
    write_readers(SETS / "readers.jsonl")
    write_native(SETS / "native.jsonl")
    write_long(SETS / "long.jsonl")
    write_voices(SETS / "voices.jsonl", Texts(shared_data()))
    for path in sorted(SETS.glob("*.jsonl")):
        print(path, len([json.loads(line) for line in path.read_text().splitlines()]), "clips")


if __name__ == "__main__":
    main()
