"""Who spoke when, on made conversations: `uv run python benchmarks/speakers.py`, offline.

Two to four voices take turns: readers of speechocean762 that nothing was trained on, or voices of
flite and espeak-ng. Each turn is one sentence; a pause of 0.2 to 0.8 s follows, and nobody speaks
while another does. What is measured is all of `transcribe --diarize`: the model writes words, its
CTC head finds their times, and every word gets a speaker.

The diarization error rate is the time that is missed, added, or given to another speaker, per time
spoken; with a collar, 0.25 s around every border of the truth are left out. `--sweep` measures
thresholds on the other readers, of which `LEAST_LIKE` was chosen.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from timestamps import about

from recipes.nano.sources import held_out_sentence, real_rows
from recipes.nano.synth import Voice as Synthetic
from recipes.nano.synth import speak
from tiny_audio.infer.longform import HOP, Window, hop_levels, quiet_below
from tiny_audio.infer.results import Transcript
from tiny_audio.infer.speakers import LEAST_LIKE, utterances, with_speakers
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.infer.voices import Voice, voices_of
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.progress import progress

RESULTS = Path(__file__).resolve().parent / "speakers"
NUM_TURNS = 12
PAUSES_S = 0.2, 0.8
FRAME = SAMPLE_RATE // 100
COLLAR = 25  # frames
MOST_MAPPED = 8  # speakers that were found and may be one of the truth: those who speak most
NOBODY = -1
SWEPT = [0.50, 0.54, 0.56, 0.58, 0.60, 0.62, 0.64, 0.68]
SYNTHETIC = [
    *(Synthetic("flite", name) for name in ("slt", "awb", "rms", "kal16")),
    *(Synthetic("espeak", name) for name in ("en-us+f2", "en-gb+m4", "en-gb-scotland+m3")),
    *(Synthetic("espeak", name) for name in ("en-us+linda", "en-gb+john", "en-gb-x-rp+klatt2")),
]


@dataclass(frozen=True)
class Conversation:
    """Samples of all turns, and who speaks in every frame of 10 ms."""

    samples_N: torch.Tensor
    truth_T: NDArray[np.int64]
    num_speakers: int


class Errors(NamedTuple):
    """Frames of 10 ms."""

    spoken: int
    missed: int
    added: int
    confused: int

    @property
    def rate(self) -> float:
        return (self.missed + self.added + self.confused) / self.spoken


# Conversations --------------------------------------------------------------------------------

Say = Callable[[int, random.Random], torch.Tensor]  # a sentence of the speaker of this number


def readers(held_out: bool, num_speakers: int, rng: random.Random) -> Say:
    """Sentences of readers, none of them twice."""
    rows = dict[str, list[Any]]()
    for row in real_rows("speechocean762", held_out):
        rows.setdefault(row["speaker"], []).append(row["audio"])
    chosen = rng.sample(sorted(rows), num_speakers)
    waiting = [rng.sample(rows[name], len(rows[name])) for name in chosen]
    return lambda speaker, _: load_audio(waiting[speaker].pop()).samples


def synthetic(num_speakers: int, rng: random.Random) -> Say:
    """Sentences of flite's and espeak-ng's voices, as they are without other pitch or speed."""
    voices = rng.sample(SYNTHETIC, num_speakers)
    return lambda speaker, rng: torch.from_numpy(
        speak(held_out_sentence(rng)[0], voices[speaker]).astype(np.float32) / 32768
    )


def conversation(say: Say, num_speakers: int, rng: random.Random) -> Conversation:
    """Let speakers take turns: everybody has one, and nobody has two in a row."""
    order = rng.sample(range(num_speakers), num_speakers)
    while len(order) < NUM_TURNS:
        order.append(rng.choice([s for s in range(num_speakers) if s != order[-1]]))
    pieces, truth = list[torch.Tensor](), list[NDArray[np.int64]]()
    for speaker in order:
        clip_N = trimmed(say(speaker, rng))
        pause = round(rng.uniform(*PAUSES_S) * 100)
        pieces += [clip_N, 1e-4 * torch.randn(pause * FRAME)]
        truth += [np.full(len(clip_N) // FRAME, speaker), np.full(pause, NOBODY)]
    return Conversation(torch.cat(pieces), np.concatenate(truth), num_speakers)


def trimmed(samples_N: torch.Tensor) -> torch.Tensor:
    """Cut off the pause before and after a sentence, by the rule that cuts long audio."""
    level_T = hop_levels(samples_N, torch.empty(0))
    loud = np.flatnonzero(level_T >= quiet_below(level_T))
    return samples_N[loud[0] * HOP : (loud[-1] + 1) * HOP]


# Errors ---------------------------------------------------------------------------------------


def found_in(transcript: Transcript, num_frames: int) -> NDArray[np.int64]:
    """Return who speaks in every frame by the transcript."""
    found_T, names = np.full(num_frames, NOBODY), dict[str, int]()
    for said in utterances(transcript):
        number = names.setdefault(said.speaker, len(names))
        found_T[round(100 * said.start_s) : round(100 * said.end_s)] = number
    return found_T


def errors(truth_T: NDArray[np.int64], found_T: NDArray[np.int64], collar: int = COLLAR) -> Errors:
    """Count errors, with that mapping of found speakers to true ones that makes fewest."""
    counted_T = np.ones(len(truth_T), bool)
    for border in np.flatnonzero(np.diff(truth_T, prepend=NOBODY, append=NOBODY)):
        counted_T[max(0, border - collar) : border + collar] = False
    truth_T, found_T = truth_T[counted_T], found_T[counted_T]
    both_T = (truth_T != NOBODY) & (found_T != NOBODY)
    return Errors(
        int((truth_T != NOBODY).sum()),
        int(((truth_T != NOBODY) & (found_T == NOBODY)).sum()),
        int(((truth_T == NOBODY) & (found_T != NOBODY)).sum()),
        int(both_T.sum()) - mapped(truth_T[both_T], found_T[both_T]),
    )


def mapped(truth_T: NDArray[np.int64], found_T: NDArray[np.int64]) -> int:
    """Return the frames that agree under the best mapping of found speakers to true ones."""
    if not len(truth_T):
        return 0
    num_true = int(truth_T.max()) + 1
    agree_FT = np.array(
        [
            np.bincount(truth_T[found_T == f], minlength=num_true)
            for f in range(int(found_T.max()) + 1)
        ]
    )
    agree_FT = agree_FT[np.argsort(-agree_FT.sum(1))][:MOST_MAPPED]
    missing = np.zeros((max(0, num_true - len(agree_FT)), num_true), int)
    agree_FT = np.concatenate([agree_FT, missing])
    choices = permutations(range(len(agree_FT)), num_true)
    return max(int(agree_FT[list(c), range(num_true)].sum()) for c in choices)


def summed(of: Sequence[Errors]) -> Errors:
    return Errors(*(sum(column) for column in zip(*of, strict=True)))


def described(of: Sequence[Errors], seed: int = 1) -> dict[str, Any]:
    """Return rates of all conversations, and the interval that other ones might have given."""
    rng, total = np.random.default_rng(seed), summed(of)
    drawn = [summed([of[n] for n in rng.integers(len(of), size=len(of))]).rate for _ in range(1000)]
    shares = {name: round(count / total.spoken, 4) for name, count in total._asdict().items()}
    low, high = np.percentile(drawn, [2.5, 97.5])
    del shares["spoken"]
    return {"rate": round(total.rate, 4), "low": round(low, 4), "high": round(high, 4), **shares}


# Measuring ------------------------------------------------------------------------------------


def listened(transcriber: Transcriber, made: Conversation) -> tuple[Transcript, list[Voice]]:
    """Return the words with their times, and what is heard of voices where there are words."""
    found = transcriber.transcribe(
        made.samples_N, sampling_rate=SAMPLE_RATE, timestamps="word", min_logprob=-99.0
    )
    voices = list[Voice]()
    for segment in filter(lambda segment: segment.words, found.segments):
        first, after = (round(s * SAMPLE_RATE) for s in (segment.start_s, segment.end_s))
        voices += voices_of(Window(first, made.samples_N[first:after]), transcriber.voices)
    return found, voices


def measure(kind: str, transcriber: Transcriber, count: int, sweep: bool) -> list[dict[str, Any]]:
    """Return rows of figures for one kind of voices."""
    heard = list[tuple[Conversation, Transcript, list[Voice]]]()
    with progress() as bar:
        for number in bar.track(range(count), description=f"{kind}: listening"):
            rng, num_speakers = random.Random(f"speakers/{kind}/{number}"), 2 + number % 3
            torch.manual_seed(number)
            if kind == "synthetic":
                say = synthetic(num_speakers, rng)
            else:
                say = readers(kind == "readers", num_speakers, rng)
            made = conversation(say, num_speakers, rng)
            heard.append((made, *listened(transcriber, made)))
    audio_s = sum(len(made.samples_N) for made, _, _ in heard) / SAMPLE_RATE
    asked = [(least, False) for least in (SWEPT if sweep else [LEAST_LIKE])]
    rows = list[dict[str, Any]]()
    for least, known in [*asked, (LEAST_LIKE, True)]:
        row: dict[str, Any] = {"voices": kind, "number_known": known, "least_like": least}
        row |= {"conversations": count, "audio_s": round(audio_s)}
        close, strict, right = list[Errors](), list[Errors](), 0
        for made, transcript, voices in heard:
            given = made.num_speakers if known else None
            found_T = found_in(with_speakers(transcript, voices, given, least), len(made.truth_T))
            close.append(errors(made.truth_T, found_T))
            strict.append(errors(made.truth_T, found_T, 0))
            right += len(set(found_T.tolist()) - {NOBODY}) == made.num_speakers
        row |= {"right_number": round(right / count, 3)}
        rows.append({**row, "collar_0.25_s": described(close), "no_collar": described(strict)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/speakers.py", description=__doc__)
    parser.add_argument("--model", default="nano", help="or a checkpoint folder")
    parser.add_argument("--conversations", type=int, default=30, help="of each kind of voices")
    parser.add_argument("--sweep", action="store_true", help="thresholds, on the other readers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transcriber = Transcriber.from_pretrained(arguments.model)
    kinds = ["other-readers"] if arguments.sweep else ["readers", "synthetic"]
    rows = [
        row
        for kind in kinds
        for row in measure(kind, transcriber, arguments.conversations, arguments.sweep)
    ]
    where = {k: v for k, v in about(0).items() if k in ("date", "commit", "machine")}
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "sweep.json" if arguments.sweep else "result.json"
    result = {**where, "model": arguments.model, "turns": NUM_TURNS, "rows": rows}
    (arguments.out / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
