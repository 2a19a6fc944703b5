"""`python -m recipes.music`: pieces, rendered with Debian's soundfonts, and questions about them.

    apt-get install fluidsynth fluid-soundfont-gm opl3-soundfont musescore-general-soundfont \
        timgm6mb-soundfont

Writes runs/music/clips/*.flac with train.jsonl and validation.jsonl (FluidR3, the FM sounds of
OPL3 and MuseScore's font, in turn) and test.jsonl (TimGM6mb, which no training hears and which
shares no samples with them). Training pieces sound through random tone controls, for another font
is brighter or darker. A row is one clip with one question; `faster` has two clips.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from recipes.music.compose import Piece, album, piece
from tiny_audio.evaluate.tasks import TASKS
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import ConfigError

FONTS = Path("/usr/share/sounds")
TRAINED = ("sf2/FluidR3_GM.sf2", "sf2/OPL-3_FM_128M.sf2", "sf3/MuseScore_General_Full.sf3")
KEPT = ("sf2/TimGM6mb.sf2",)
ASKED = ("instrument", "drums", "tempo", "key", "mode", "metre")
SECONDS, PAUSE = 6.0, 2.0  # of a piece, and of silence behind it
AT_ONCE = 200  # pieces; a compressed font takes half a minute to load
CENTRES_HZ, MOST_DB = (60, 200, 600, 1_800, 5_400), 8.0  # of tone controls


class Clip(NamedTuple):
    """A piece, the soundfont that plays it, and the name of its file in the set's folder."""

    piece: Piece
    font: str
    name: str


def render(pieces: Sequence[Piece], font: str, paths: Sequence[Path], tones: bool) -> None:
    """Write pieces as 16 kHz mono FLAC of `SECONDS` each, many at once: fonts are slow to load."""
    if shutil.which("fluidsynth") is None or not (FONTS / font).is_file():
        raise ConfigError(
            f"Rendering needs fluidsynth and {FONTS / font}. Type: apt-get install fluidsynth "
            f"fluid-soundfont-gm opl3-soundfont musescore-general-soundfont timgm6mb-soundfont"
        )
    with tempfile.TemporaryDirectory() as folder:
        written, wav = Path(folder) / "a.mid", Path(folder) / "a.wav"
        written.write_bytes(album(pieces, SECONDS, SECONDS + PAUSE))
        command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", "16000", "-F", str(wav)]
        subprocess.run([*command, str(FONTS / font), str(written)], check=True, capture_output=True)
        samples = load_audio(wav).samples.numpy()
    for place, (one, path) in enumerate(zip(pieces, paths, strict=True)):
        start = round(place * (SECONDS + PAUSE) * 16_000)
        sound = samples[start : start + round(SECONDS * 16_000)]
        soundfile.write(path, toned(sound, one.seed) if tones else sound, 16_000)


def toned(samples_N: np.ndarray, seed: int) -> np.ndarray:
    """Return the sound through tone controls that are set at random, at the same peak level."""
    gains_db = np.random.default_rng(seed).uniform(-MOST_DB, MOST_DB, len(CENTRES_HZ))
    spectrum = np.fft.rfft(samples_N)
    hertz = np.fft.rfftfreq(len(samples_N), 1 / 16_000)
    octaves = np.log2(np.maximum(hertz, 1.0))
    spectrum *= 10 ** (np.interp(octaves, np.log2(CENTRES_HZ), gains_db) / 20)
    changed = np.fft.irfft(spectrum, len(samples_N))
    loudest = max(float(np.abs(changed).max()), 1e-9)
    return (changed * (float(np.abs(samples_N).max()) / loudest)).astype(np.float32)


def rows(clips: Sequence[Clip], seed: int, per_clip: int) -> list[dict[str, Any]]:
    """Questions about single clips, `per_clip` for each, and about half as many pairs as clips."""
    draw, found = random.Random(f"rows/{seed}"), list[dict[str, Any]]()
    for asked, _, name in clips:
        labels = asked.labels()
        for task in draw.sample(ASKED, per_clip):
            prompt = draw.choice(TASKS[task].prompts)
            row = {"audio": name, "prompt": prompt, "text": labels[task], "task": task}
            found.append({**row, **labels})
    for _ in range(len(clips) // 2):
        (one, _, first), (other, _, second) = draw.sample(list(clips), 2)
        if max(one.bpm, other.bpm) > 1.2 * min(one.bpm, other.bpm):  # who could tell less apart?
            answer = "first" if one.bpm > other.bpm else "second"
            prompt = draw.choice(TASKS["faster"].prompts)
            pair = {"audio": [first, second], "prompt": prompt, "text": answer}
            found.append({**pair, "task": "faster"})
    return found


def write(folder: Path, name: str, seeds: range, fonts: Sequence[str], per_clip: int) -> None:
    """Render pieces that are not there yet, and write the manifest of their questions."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    dealt = [(seed, fonts[seed % len(fonts)]) for seed in seeds]
    clips = [Clip(piece(n), font, f"clips/{Path(font).stem}-{n:05}.flac") for n, font in dealt]
    for font in fonts:
        missing = [c for c in clips if c.font == font and not (folder / c.name).exists()]
        for at in range(0, len(missing), AT_ONCE):
            some = missing[at : at + AT_ONCE]
            paths = [folder / c.name for c in some]
            render([c.piece for c in some], font, paths, tones=name == "train")
    lines = [json.dumps(row) + "\n" for row in rows(clips, seeds.start, per_clip)]
    (folder / f"{name}.jsonl").write_text("".join(lines))
    print(f"{name}: {len(clips)} pieces, {len(lines)} questions", flush=True)


def main() -> None:
    """Make all three sets."""
    asked = argparse.ArgumentParser(prog="python -m recipes.music", description=__doc__)
    asked.add_argument("--out", type=Path, default=Path("runs/music"))
    asked.add_argument("--pieces", type=int, default=6000, help="of training; a tenth to test on")
    options = asked.parse_args()
    num, few = options.pieces, max(2, options.pieces // 10)
    write(options.out, "train", range(num), TRAINED, 3)
    write(options.out, "validation", range(100_000, 100_000 + few), TRAINED, len(ASKED))
    write(options.out, "test", range(200_000, 200_000 + few), KEPT, len(ASKED))


if __name__ == "__main__":
    main()
