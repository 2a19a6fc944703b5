"""What hotwords gain and what they invent: `uv run python benchmarks/hotwords.py`, offline.

Every held-out clip is written by nano with a list of its own rare words among distractors, and with
distractors alone. Recall counts the rare words that were said and written; false insertions are
listed words that were not said but written. `--sweep` tries other bonuses.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from held_out import FOLDER, Clip, held_out
from jiwer import wer

from tiny_audio.infer.hotwords import FIRST_BONUS, NEXT_BONUS, Hotwords
from tiny_audio.infer.longform import Window
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.generation import token_limit, write

SWEEP = [(0.0, 1.0), (0.0, 2.0), (0.5, 2.0), (0.5, 3.0), (1.0, 3.0), (1.0, 4.0), (2.0, 5.0)]
RARE = 20  # said at most so often in the training clips
DISTRACTORS = 10


def rare_words(clips: list[Clip]) -> set[str]:
    """Words of four letters and more that nano's and the quickstart's training said seldom."""
    rows = (FOLDER.parent / "train" / "manifest.jsonl").read_text().splitlines()
    said = Counter(word for row in rows for word in json.loads(row)["text"].split())
    words = {word for clip in clips for word in clip.text.split()}
    return {word for word in words if len(word) > 3 and said[word] <= RARE}


def heard_with(
    transcriber: Transcriber, clips: list[Clip], lists: list[list[str]], bonus: tuple[float, float]
) -> list[str]:
    """Each clip's text with its own list."""
    texts = []
    tokenizer, stops = transcriber.model.tokenizer, transcriber.processor.stop_ids()
    for first in range(0, len(clips), 32):
        batch = clips[first : first + 32]
        biases = [Hotwords(words, tokenizer, *bonus) for words in lists[first : first + 32]]
        windows = [Window(0, clip.samples_N) for clip in batch]
        limits = [token_limit(len(clip.samples_N) / 16_000) for clip in batch]
        written = write(
            transcriber.model,
            *transcriber.encode(windows),
            stops,
            limits,
            lambda row, tokens, biases=biases: biases[row](row, tokens),
        )
        texts += [transcriber.segment(*each).text for each in zip(windows, written, strict=True)]
    return texts


def counted(clips: list[Clip], lists: list[list[str]], texts: list[str]) -> dict[str, Any]:
    said = found = invented = 0
    for clip, words, text in zip(clips, lists, texts, strict=True):
        true = set(clip.text.split()) & set(words)
        said += len(true)
        found += len(true & set(text.split()))
        invented += len((set(words) - true) & set(text.split()))
    return {
        "said": said,
        "recall": found / said if said else None,
        "false_insertions": invented,
        "listed_but_not_said": sum(map(len, lists)) - said,
        "wer": wer([clip.text for clip in clips], texts),
    }


def leaks(transcriber: Transcriber, words: list[str], bonus: tuple[float, float]) -> int:
    """Listed words written into noise of five loudnesses, and silence; 20 s each."""
    noise = torch.randn(20 * 16_000, generator=torch.Generator().manual_seed(0))
    sounds = [Clip(noise * level, "") for level in (0.3, 0.1, 0.03, 0.01, 0.003, 0.0)]
    sounds = [Clip(piece, "") for clip in sounds for piece in clip.samples_N.split(80_000)]
    texts = heard_with(transcriber, sounds, [words] * len(sounds), bonus)
    return sum(word in words for text in texts for word in text.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--sweep", action="store_true", help="other bonuses too")
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    asked = parser.parse_args()
    transcriber, clips = Transcriber.from_pretrained("nano"), held_out()
    rare, chance = rare_words(clips), random.Random(0)
    clips = [clip for clip in clips if rare & set(clip.text.split())][: asked.clips]
    true = [sorted(rare & set(clip.text.split())) for clip in clips]
    others = [chance.sample(sorted(rare - set(clip.text.split())), DISTRACTORS) for clip in clips]
    mixed = [[*mine, *theirs] for mine, theirs in zip(true, others, strict=True)]
    rows = []
    for bonus in [(0.0, 0.0), *(SWEEP if asked.sweep else [(FIRST_BONUS, NEXT_BONUS)])]:
        row = {"first": bonus[0], "next": bonus[1]}
        row["with_distractors"] = counted(
            clips, mixed, heard_with(transcriber, clips, mixed, bonus)
        )
        row["distractors_alone"] = counted(
            clips, others, heard_with(transcriber, clips, others, bonus)
        )
        row["leaks_into_noise"] = leaks(transcriber, mixed[0], bonus)
        rows.append(row)
        print(json.dumps(row), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
