"""What transcribing costs: `uv run python benchmarks/inference.py [--out FOLDER]`, offline.

1. 32 clips of mixed lengths as one batch, with each alone, ours and plain
2. clips of 3 s with transformers' `generate` after padding to 30 s, on the same weights
3. nano in float32, bfloat16 and int8: clips a second, memory, word errors on held-out voices

Every part runs in a process of its own. Ratios are of medians taken in turn; `cpu` counts the time
of all cores, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from inference_parts import measures
from rich.console import Console
from rich.table import Table
from training import goal, hardware, keep
from training_parts.tables import goals_table, table

HERE = Path(__file__).resolve().parent
RESULTS, QUICK_RESULTS = HERE / "inference", Path("runs") / "benchmarks" / "inference-quick"
VARIANTS: dict[str, dict[str, str]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "int8"},
}
REFERENCE = (
    "Plain: the clips padded to the longest, encoded at once, transformers' forward and growing "
    "cache for every token. Padded to 30 s: nano's own weights with its encoder's positions "
    "(sinusoids) continued to 1,500 and attending to all of them, as Whisper's do; 30 s of sound, "
    "375 placeholders and `generate`, held to as many steps as our longest answer; it goes on past "
    "its stop, so its tokens are others."
)
FULL = {
    "mixed": {"clips": 32, "repetitions": 3},
    "short": {"clips": 8, "clip_s": 3.0, "repetitions": 2},
    "variant": {"clips": 200, "batch": 32, "repetitions": 1},
}
QUICK = {
    "mixed": {"clips": 4, "repetitions": 1},
    "short": {"clips": 1, "clip_s": 1.0, "repetitions": 1},
    "variant": {"clips": 4, "batch": 4, "repetitions": 1},
}
Row = dict[str, Any]


def alone(output: Path | None, call: Callable[..., Row], **asked: Any) -> Row:
    """Run a measurement in a fresh process, and keep what it found at once."""
    print(f"{call.__name__} {json.dumps(asked)}", file=sys.stderr, flush=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        row: Row = pool.apply(call, kwds=asked)
    keep(output, call.__name__, asked, row)
    return row


def all_of(sizes: Row, threads: int, output: Path | None = None) -> Row:
    run = partial(alone, output)
    return {
        "mixed": run(measures.mixed, **sizes["mixed"], threads=threads),
        "short": run(measures.short, **sizes["short"], threads=threads),
        "variants": {
            name: run(measures.variant, options=options, **sizes["variant"], threads=threads)
            for name, options in VARIANTS.items()
        },
    }


def goals(found: Row) -> list[Row]:
    mixed, short = found["mixed"]["rows"], found["short"]["rows"]
    ours, plain = mixed["ours, one by one"], mixed["plain, one by one"]
    padded = short["generate, padded to 30 s"]
    return [
        goal("32 mixed clips in a batch, × as fast as plain, one by one", plain["times_wall"], 5),
        goal("the same, × as fast as ours, one by one", ours["times_wall"], 5),
        goal("share of ways that write the same tokens", share_same(mixed), 1),
        goal("3 s clips, × as fast as generate with 30 s", padded["times_wall"], 8),
    ]


def share_same(rows: Row) -> float:
    return sum(row["same_tokens_as_last"] for row in rows.values()) / len(rows)


# Tables -----------------------------------------------------------------------------------------


def show(console: Console, found: Row) -> None:
    console.print(ways_table("Clips of mixed lengths", found["mixed"]), "")
    console.print(ways_table("Clips of one length", found["short"], REFERENCE), "")
    console.print(variants_table(found["variants"]), "")
    console.print(goals_table(found["goals"], "cpu"))


def ways_table(title: str, found: Row, caption: str = "") -> Table:
    heads = ["ms (fastest)", "CPU ms", "clips/s", "× the last", "× in CPU time", "same tokens"]
    made = table(
        f"{title}: {found['clips']}, {found['audio_s']:.1f} s", "", *heads, caption=caption
    )
    for name, row in found["rows"].items():
        made.add_row(
            name,
            f"{1000 * row['wall_s']:,.0f} ({1000 * row['fastest_s']:,.0f})",
            f"{1000 * row['cpu_s']:,.0f}",
            f"{found['clips'] / row['wall_s']:,.1f}",
            f"{row['times_wall']:.2f}",
            f"{row['times_cpu']:.2f}",
            "yes" if row["same_tokens_as_last"] else "no",
        )
    return made


def variants_table(rows: Row) -> Table:
    heads = ["clips/s", "CPU ms a clip", "real-time factor", "model MB", "peak MB", "WER", "words"]
    made = table("nano's weights, held-out clips in batches", "", *heads)
    for name, row in rows.items():
        made.add_row(
            name,
            f"{row['clips_per_s']:.1f}",
            f"{1000 * row['cpu_s'] / row['clips']:,.1f}",
            f"{row['real_time_factor']:.4f}",
            f"{row['held_bytes'] / 1e6:,.0f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
            f"{row['wer']:.2%}",
            f"{row['words']:,}",
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS}, or {QUICK_RESULTS}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    console = Console(width=None if sys.stdout.isatty() else 150)
    sizes = QUICK if asked.quick else FULL
    result: Row = {"quick": asked.quick, "hardware": hardware(asked.threads), "sizes": sizes}
    if os.getloadavg()[0] > 0.5:
        console.print("Other programs are running: these figures are noisy.", style="bold red")
    output = asked.out or (QUICK_RESULTS if asked.quick else RESULTS)
    found = all_of(sizes, asked.threads, output)
    found["goals"] = goals(found)
    result |= {"load_average_at_end": os.getloadavg(), "reference": REFERENCE, **found}
    console.print(json.dumps(result["hardware"], indent=1), highlight=False)
    show(console, found)
    output.mkdir(parents=True, exist_ok=True)
    (output / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (output / "figures.jsonl").unlink(missing_ok=True)
    console.print(f"Written: {output / 'result.json'}")


if __name__ == "__main__":
    main()
