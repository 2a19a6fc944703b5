"""What a training step costs: `uv run python benchmarks/training.py [--out FOLDER]`, offline.

1. a step against a plain one: the same modules and clips, padded to 30 s, encoded in every step,
   with logits of all positions
2. the loss over 151,936 words against the same loss from all logits at once
3. which share of the machine's own matrix rate the language model reaches, and what takes the rest
4. what 1, 4 and 16 times the data cost

Every figure comes from a process of its own (`training_parts`); peak memory is what it adds to
what it held before. Takes about ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from training_parts.tables import REFERENCE, show

HERE = Path(__file__).resolve().parent
RESULTS, QUICK_RESULTS = HERE / "training", Path("runs") / "benchmarks" / "training-quick"
CHILD = {**os.environ, "PYTHONPATH": str(HERE), "KINETO_LOG_LEVEL": "9", "HF_HUB_OFFLINE": "1"}
Row = dict[str, Any]
Measure = Callable[..., Row]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. `heads` are dtypes of a frozen output layer."""

    clips: int = 20  # 60 s, the default budget of a batch
    clip_s: float = 3.0
    slow: int = 10  # repetitions of what takes seconds, and of what does not
    fast: int = 40
    heads: tuple[str, ...] = ("bfloat16", "float32")
    rows: int = 2000
    width: int = 1024
    words: int = 151_936
    matrices: tuple[int, ...] = (512, 1024, 2048, 4096)
    weights: str = "float32"  # of frozen parts in a run
    # Name, weights, attention (empty: what a run takes), clips.
    decoders: tuple[tuple[str, str, str, int], ...] = (
        ("nano", "float32", "", 20),
        ("nano", "float32", "", 80),
        ("nano", "float32", "eager", 80),
        ("smollm2_135m", "float32", "", 20),
        ("smollm2_135m", "float32", "eager", 20),
        ("smollm2_135m", "bfloat16", "", 20),
    )
    growth: tuple[int, ...] = (150, 600, 2400)  # clips of the embedded corpus, all different
    growth_steps: int = 60
    growth_batch_s: float = 60.0


FULL = Sizes()
GPU = replace(  # frozen parts are held in bfloat16 there, and small batches leave it waiting
    FULL,
    clips=40,
    heads=("bfloat16",),
    weights="bfloat16",
    matrices=(2048, 4096, 8192, 16_384),
    decoders=(("nano", "bfloat16", "", 640), ("smollm2_135m", "bfloat16", "", 320)),
)
QUICK = Sizes(
    clips=2,
    slow=1,
    fast=2,
    heads=("bfloat16",),
    rows=256,
    width=64,
    words=8_000,
    matrices=(128, 256),
    decoders=(("nano", "float32", "", 4),),
    growth=(10, 40),
    growth_steps=2,
    growth_batch_s=10.0,
)


# Measuring --------------------------------------------------------------------------------------


def measuring(device: str, threads: int, output: Path | None = None) -> Measure:
    """Run functions of `training_parts`, each in a fresh process, and keep every figure at once."""

    def measure(name: str, **arguments: Any) -> Row:
        asked = {**arguments, "device": device}
        line = json.dumps(asked)
        print(f"{device}: {name} {line}", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "training_parts", name, str(threads), line]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=CHILD)
        row: Row = json.loads(done.stdout.splitlines()[-1])
        keep(output, name, asked, row)
        return row

    return measure


def keep(output: Path | None, name: str, asked: Row, row: Row) -> None:
    """Print a figure when it is measured and add it to figures.jsonl: a benchmark may be stopped.

    The file is removed when result.json, which holds all of them, is written.
    """
    line = json.dumps({"measured": name, "asked": asked, "found": row}, ensure_ascii=False)
    print(line, file=sys.stderr, flush=True)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        with (output / "figures.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def all_of(measure: Measure, size: Sizes) -> Row:
    return {
        "steps": steps(measure, size),
        "vocabulary": [vocabulary(measure, size, head) for head in size.heads],
        "language_model": language_models(measure, size),
        "growth": growth(measure, size),
    }


def steps(measure: Measure, size: Sizes) -> Row:
    """Variants of one step; `times` and `memory` say how much the reference takes of theirs."""
    counts = {"reference": size.slow, "unpadded": size.fast, "live": size.fast, "cached": size.fast}
    rows = {
        variant: measure(
            "step", variant=variant, clips=size.clips, clip_s=size.clip_s, repetitions=n
        )
        for variant, n in counts.items()
    }
    reference = rows["reference"]
    for row in rows.values():
        row["times"] = reference["step_ms"]["median"] / row["step_ms"]["median"]
        row["times_update"] = reference["update_ms"]["median"] / row["update_ms"]["median"]
        row["times_memory"] = reference["peak_bytes"] / row["peak_bytes"]
    return rows


def vocabulary(measure: Measure, size: Sizes, head: str) -> Row:
    """Both ways of one loss, and by how much their values differ."""
    shape = {"dtype": head, "rows": size.rows, "width": size.width, "words": size.words}
    repetitions = max(1, size.slow // 3)
    full, chunked = (
        measure("vocabulary", variant=variant, repetitions=repetitions, **shape)
        for variant in ("full", "chunked")
    )
    pairs = list(zip(full.pop("gradient"), chunked.pop("gradient"), strict=True))
    return {
        **shape,
        "full": full,
        "chunked": chunked,
        "times_memory": full["peak_bytes"] / chunked["peak_bytes"],
        "loss_difference": abs(full["loss"] - chunked["loss"]) / abs(full["loss"]),
        "gradient_difference": max(abs(a - b) for a, b in pairs) / max(abs(a) for a, _ in pairs),
    }


def language_models(measure: Measure, size: Sizes) -> Row:
    """Every decoder's rate as a share of the fastest product of two matrices."""
    dtypes, rows = ("bfloat16", "float32"), []
    rates = measure("best_rates", dtypes=dtypes, sizes=size.matrices, repetitions=size.slow)
    for name, dtype, attention, clips in size.decoders:
        asked = {"decoder": name, "dtype": dtype, "attention": attention, "clips": clips}
        row = measure("language_model", clip_s=size.clip_s, repetitions=size.slow, **asked)
        share = row["rate"] / max(rates["bfloat16"].values())
        as_in_a_run = not attention and dtype == size.weights
        rows.append({**asked, "as_in_a_run": as_in_a_run, **row, "share": share})
    return {"rates": rates, "rows": rows}


def growth(measure: Measure, size: Sizes) -> Row:
    """One cache for all; each number of clips is read, planned and trained on alone."""
    asked = {"steps": size.growth_steps, "batch_s": size.growth_batch_s}
    with tempfile.TemporaryDirectory() as folder:
        filling = measure("listen", folder=folder, clips=max(size.growth))
        rows = [measure("growth", folder=folder, clips=n, **asked) for n in size.growth]
    return {"filling": filling, "rows": rows}


# Goals ------------------------------------------------------------------------------------------


def goals(found: Row) -> list[Row]:
    """What was aimed at, what was measured, and whether it was reached."""
    times = {variant: row["times"] for variant, row in found["steps"].items()}
    rows = [
        goal("step with cached frames, × faster than the reference", times["cached"], 25),
        goal("step without a cache, × faster than the reference", times["live"], 10),
    ]
    rows += [
        goal(f"loss over {v['words']:,} words ({v['dtype']}), × less memory", v["times_memory"], 10)
        for v in found["vocabulary"]
    ]
    rows += [
        goal(f"{r['decoder']}, {r['clips']} clips: share of the matrix rate", r["share"], 0.5)
        for r in found["language_model"]["rows"]
        if r["as_in_a_run"]
    ]
    first, last = found["growth"]["rows"][0], found["growth"]["rows"][-1]
    ratio = last["peak_bytes"] / first["peak_bytes"]
    more = last["clips"] / first["clips"]
    return [*rows, goal(f"peak memory at {more:.0f} × the data, × that at 1 ×", ratio, 1.1, True)]


def goal(what: str, value: float, due: float, at_most: bool = False) -> Row:
    met = value <= due if at_most else value >= due
    return {"what": what, "value": value, "goal": due, "at_most": at_most, "met": met}


# The command --------------------------------------------------------------------------------------


def hardware(threads: int) -> Row:
    """Where and when."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average_at_start": os.getloadavg(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted": git("status", "--porcelain", "--", "tiny_audio", "benchmarks/*.py") != "",
    }


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True)
    return done.stdout.strip()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS}, or {QUICK_RESULTS}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: all that there are")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("Peak memory is read from Linux's /proc; run this on Linux.")
    output = asked.out or (QUICK_RESULTS if asked.quick else RESULTS)
    console = Console(width=None if sys.stdout.isatty() else 170)
    result: Row = {
        "quick": asked.quick,
        "hardware": hardware(asked.threads),
        "reference": REFERENCE,
    }
    console.print(json.dumps(result["hardware"], indent=1), highlight=False)
    if os.getloadavg()[0] > 0.5:
        console.print("Other programs are running: these figures are noisy.", style="bold red")
    if asked.quick:
        console.print("Tiny sizes: these figures say nothing about the goals.", style="bold red")
    for device in [asked.device] if asked.device else devices():
        size = QUICK if asked.quick else GPU if device == "cuda" else FULL
        found = all_of(measuring(device, asked.threads, output), size)
        result[device] = {"sizes": vars(size), **found, "goals": goals(found)}
        show(console, device, result[device])
    output.mkdir(parents=True, exist_ok=True)
    (output / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (output / "figures.jsonl").unlink(missing_ok=True)
    console.print(f"Written: {output / 'result.json'}")


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


if __name__ == "__main__":
    main()
