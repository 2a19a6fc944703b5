"""Whether an evaluation's memory grows: `uv run python benchmarks/evaluation.py [--clips 1000]`.

nano transcribes clips of the embedded corpus, as `tiny-audio eval` does; the resident memory is
read every hundred clips. Linux; a few minutes on two cores. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tiny_audio.commands import keep_few_kernels
from tiny_audio.data.examples import SourceConfig
from tiny_audio.evaluate.evaluator import RunConfig, Watch, evaluate
from tiny_audio.evaluate.metrics import Utterance
from tiny_audio.evaluate.rivals import system
from tiny_audio.train.experiments import EMBEDDED

EVERY = 100


class Memory(Watch):
    """Resident MB after every hundred clips."""

    def __init__(self) -> None:
        self.num, self.resident_mb = 0, dict[int, float]()

    def sample(self, utterance: Utterance) -> None:
        self.num += 1
        if self.num % EVERY == 0:
            self.resident_mb[self.num] = resident_mb()


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main(num: int) -> None:
    keep_few_kernels()  # as the command does
    source = SourceConfig(path=str(EMBEDDED / "train"))
    config = RunConfig(name="quickstart/train", source=source, max_samples=num)
    watch = Memory()
    with tempfile.TemporaryDirectory() as folder:
        result, _ = evaluate(system("nano"), config, Path(folder), watch)
    first, last = watch.resident_mb[EVERY], resident_mb()
    found = {
        "clips": result["scores"]["clips"],
        "resident_mb": {n: round(mb, 1) for n, mb in watch.resident_mb.items()},
        "last_over_first": round(last / first, 3),
        "speed": result["speed"],
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    main(parser.parse_args().clips)
