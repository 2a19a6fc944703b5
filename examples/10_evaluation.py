"""Word error rate, clip by clip: what `tiny-audio eval` counts, on the repository's samples."""

import json
import random
import time
from pathlib import Path

import jiwer
from options import options, title
from whisper_normalizer.english import EnglishTextNormalizer

from tiny_audio import Transcriber

args = options(__doc__, scales=False)
manifest = Path("samples/manifest.jsonl")
rows = [json.loads(line) for line in manifest.read_text().splitlines()]
random.Random(42).shuffle(rows)

# Case, punctuation, contractions and spelled numbers do not count as errors.
normalise = EnglishTextNormalizer()
transcriber = Transcriber.from_pretrained(args.model)
references, predictions, took_s = [], [], []
for number, row in enumerate(rows, start=1):
    began = time.perf_counter()
    text = transcriber.transcribe(manifest.parent / row["audio"]).text
    took_s.append(time.perf_counter() - began)
    references.append(normalise(row["text"]))
    predictions.append(normalise(text))
    error = jiwer.wer(references[-1], predictions[-1])
    print(f"Sample {number}: WER = {error:.2%}, Time = {took_s[-1]:.2f}s")
    print(f"  Ref:  {row['text']}\n  Pred: {text}")

title(f"CHECKPOINT @ {len(rows)} samples:")
print(f"  Corpus WER: {jiwer.wer(references, predictions):.2%}")
print(f"  Avg Time/Sample: {sum(took_s) / len(took_s):.2f}s")
print("These eight clips were chosen, not drawn: they are an example and no measurement.")
