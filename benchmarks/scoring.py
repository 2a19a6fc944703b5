"""What scoring costs: `uv run python benchmarks/scoring.py [--pairs 100000]`, offline, one process.

The same generated pairs are scored by `tiny_audio.evaluate` (normalised, word and character errors,
intervals, failure counters) and, for the counting alone, by jiwer. CPU
seconds in one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import jiwer

from recipes.nano.sentences import domain_sentence
from tiny_audio.evaluate.metrics import total, utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.result import make_result

FILLERS = "the of and so well then it was there a".split()


def pairs(num: int, seed: int = 0) -> list[Prediction]:
    """Sentences of five to fourteen words, written with an error in every tenth word and with case
    and a full stop, so that reference and hypothesis are different strings."""
    rng, made = random.Random(seed), list[Prediction]()
    for number in range(num):
        words = list[str]()
        while len(words) < 5:
            words += domain_sentence(rng)[0].split()
        heard = [w if rng.random() > 0.1 else rng.choice(FILLERS) for w in words]
        heard += [rng.choice(FILLERS)] * (rng.random() < 0.1)
        hyp = " ".join(heard).capitalize() + "."
        made.append(Prediction(f"pairs:{number}", " ".join(words), hyp, "ok", 4.0, 0.2))
    return made


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, which does nothing else: the machine may be busy."""
    start = time.process_time()
    done = work()
    return round(time.process_time() - start, 2), done


def measure(num: int, name: str) -> dict[str, Any]:
    """Seconds of every part; `all` is what `tiny-audio score` does after reading the file."""
    made, normal = pairs(num), normalizer(name)
    all_s, (table, result) = timed(
        lambda: (table := utterances(made, normal), make_result(table, normal))
    )
    texts = [text for one in made for text in (one.ref, one.hyp or "")]
    normal_s, _ = timed(lambda: normal.all(texts))
    refs, hyps = [one.ref for one in table], [one.hyp or "" for one in table]
    jiwer_s, (words, chars) = timed(
        lambda: (jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps))
    )
    assert result["scores"]["wer"]["rate"] == words.wer
    assert total(one.chars for one in table).rate == chars.cer
    return {
        "pairs": num,
        "normalizer": normal.to_dict(),
        "wer": round(words.wer, 5),
        "all_s": all_s,
        "normalising_s": normal_s,
        "everything_else_s": round(all_s - normal_s, 2),
        "jiwer_counting_alone_s": jiwer_s,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--normalizer", default="whisper-en")
    given = parser.parse_args()
    print(json.dumps(measure(given.pairs, given.normalizer), indent=1))
