"""The results of `benchmarks/training.py` as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

REFERENCE = (
    "The reference is nano itself with its encoder's window and positions continued to 30 s: every "
    "clip is padded to 30 s of sound, encoded in every step and projected whole; transformers' "
    "mean loss takes float32 logits of all positions; AdamW. Both sides compute in bfloat16 where "
    "autocast does, train the projector alone and begin at a list of clips (decoding included; "
    "a run makes its batches on a second thread)."
)
NAMES = {
    "reference": "reference: 30 s, all logits",
    "unpadded": "the same at true length",
    "live": "ours, encoder in the step",
    "cached": "ours, frames from the cache",
}
Row = dict[str, Any]


def show(console: Console, device: str, found: Row) -> None:
    for made in (
        steps_table(found["steps"], found["sizes"]),
        vocabulary_table(found["vocabulary"]),
        language_model_table(found["language_model"]),
        growth_table(found["growth"]),
        goals_table(found["goals"], device),
    ):
        console.print(made, "")


def table(title: str, first: str, *columns: str, caption: str = "") -> Table:
    made = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    made.add_column(first)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def steps_table(rows: Row, sizes: Row) -> Table:
    heads = ["ms a step (min–max)", "clips → batch", "update", "× faster", "× update", "peak MB"]
    title = f"A step on {sizes['clips']} clips of {sizes['clip_s']:g} s"
    made = table(title, "", *heads, "× less memory", caption=REFERENCE)
    for name, row in rows.items():
        made.add_row(
            NAMES[name],
            ms(row["step_ms"]),
            f"{row['collate_ms']['median']:,.1f}",
            f"{row['update_ms']['median']:,.1f}",
            f"{row['times']:.1f}",
            f"{row['times_update']:.1f}",
            mega(row["peak_bytes"]),
            f"{row['times_memory']:.1f}",
        )
    return made


def vocabulary_table(rows: list[Row]) -> Table:
    shape = f"{rows[0]['rows']:,} rows of {rows[0]['width']:,}, {rows[0]['words']:,} words"
    heads = ["full: MB", "ms", "chunked: MB", "ms", "× less memory", "loss differs", "gradient"]
    made = table(f"Loss and its gradient, {shape}", "frozen head in", *heads)
    for row in rows:
        made.add_row(
            row["dtype"],
            mega(row["full"]["peak_bytes"]),
            f"{row['full']['time_ms']['median']:,.0f}",
            mega(row["chunked"]["peak_bytes"]),
            f"{row['chunked']['time_ms']['median']:,.0f}",
            f"{row['times_memory']:.1f}",
            f"{row['loss_difference']:.1e}",
            f"{row['gradient_difference']:.1e}",
        )
    return made


def language_model_table(found: Row) -> Table:
    best = {dtype: max(by_size.values()) / 1e9 for dtype, by_size in found["rates"].items()}
    title = (
        f"Decoder and loss, forward and backward; square matrices reach {best['bfloat16']:,.0f} "
        f"GFLOP/s in bfloat16 ({best['float32']:,.0f} in float32)"
    )
    kinds = list(found["rows"][0]["shares"])
    heads = ["weights", "attention", "batch", "ms (min–max)", "GFLOP/s", "share", *kinds]
    made = table(
        title,
        "decoder",
        *heads,
        caption="Weights are frozen. *: not what a run takes. Last columns: where the time goes.",
    )
    for row in found["rows"]:
        made.add_row(
            row["decoder"],
            row["dtype"],
            row["attention"] + ("" if row["as_in_a_run"] else " *"),
            "×".join(map(str, row["positions"])),
            ms(row["time_ms"]),
            f"{row['rate'] / 1e9:,.0f}",
            f"{row['share']:.0%}",
            *(f"{row['shares'][kind]:.0%}" for kind in kinds),
        )
    return made


def growth_table(found: Row) -> Table:
    filling, first = found["filling"], found["rows"][0]
    caption = (
        f"The cache was filled before, {filling['clips']:,} clips in {filling['seconds']:.1f} s "
        f"({filling['audio_s'] / filling['seconds']:.0f} × real time). Mapped: "
        "pages of files, the cache's among them, that count as memory and could be dropped."
    )
    heads = [
        "hours",
        "read s",
        "find in cache s",
        "plan s",
        "ms a step (min–max)",
        "ms per s of sound",
    ]
    made = table(
        "Growing data, cached frames", "clips", *heads, "peak MB", "×", "mapped MB", caption=caption
    )
    for row in found["rows"]:
        made.add_row(
            f"{row['clips']:,}",
            f"{row['audio_s'] / 3600:.2f}",
            *(f"{row[key]:.2f}" for key in ("reading_s", "finding_s", "planning_s")),
            ms(row["step_ms"]),
            f"{row['ms_per_audio_s']['median']:.2f}",
            mega(row["peak_bytes"]),
            f"{row['peak_bytes'] / first['peak_bytes']:.2f}",
            mega(row["mapped_bytes"]),
        )
    return made


def goals_table(rows: list[Row], device: str) -> Table:
    made = table(f"Goals ({device})", "", "measured", "goal", "")
    for row in rows:
        sign = "≤" if row["at_most"] else "≥"
        met = "met" if row["met"] else "not met"
        made.add_row(row["what"], f"{row['value']:.2f}", f"{sign} {row['goal']:g}", met)
    return made


def ms(row: Row) -> str:
    return f"{row['median']:,.1f} ({row['min']:,.1f}–{row['max']:,.1f})"


def mega(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f}"
