"""Peak memory of questions about a long clip and about several: `python benchmarks/asking.py`.

Each question runs in a process of its own, on Whisper tiny.en's layers, BLP and nano's decoder with
one position a second (`recipes.ears`), untrained: what is measured is memory, not the answer. The
result goes to benchmarks/asking/result.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).with_name("asking")
# Name → clips, and seconds of each.
QUESTIONS = {
    "text alone": (0, 0),
    "one clip of 2 minutes": (1, 120),
    "one clip of 20 minutes": (1, 1200),
    "ten clips of 30 s": (10, 30),
}


def ask(num_clips: int, seconds: int) -> None:
    """Ask one question, and print what it took."""
    import torch

    from recipes.ears.train import Plan, build
    from tiny_audio.infer.transcriber import Transcriber
    from tiny_audio.model.audio import SAMPLE_RATE

    transcriber = Transcriber(build(Plan(hertz=1.0)))
    made = torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(seconds * SAMPLE_RATE, generator=made) for _ in range(num_clips)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    answer = transcriber.ask("What is it?", clips, max_tokens=8, sampling_rate=SAMPLE_RATE)
    found = {
        "prompt_tokens": answer.prompt_tokens,
        "before_mb": round(before / 1024),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "processor_s": round(time.process_time() - began, 1),
    }
    print(json.dumps(found))


def main() -> None:
    """Ask all questions, each in its own process."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--one", nargs=2, type=int, metavar=("CLIPS", "SECONDS"))
    options = asked.parse_args()
    if options.one:
        ask(*options.one)
        return
    found = {}
    for name, size in QUESTIONS.items():
        command = [sys.executable, __file__, "--one", *map(str, size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {found[name]}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "result.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
