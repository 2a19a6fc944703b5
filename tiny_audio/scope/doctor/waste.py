"""Checks of a run's clips: padding, waiting, rows left out, and duplicates."""

from __future__ import annotations

from statistics import fmean

from tiny_audio.scope.doctor.log import Check, Finding, Findings, Log, percent

# Padding, or waiting for clips: more than a fifth of the time is worth a change.
WASTE = 0.2
# Of all clips: one in a hundred is usual in large corpora, one in ten is a reader that fails.
DROPPED, MANY_DROPPED = 0.01, 0.1


def padding(log: Log) -> Findings:
    """Find too much padding, as trained, or as planned where nothing was trained yet."""
    share = fmean(r["padding"] for r in log.latest) if log.latest else log.data.get("padding", 0.0)
    if share > WASTE:
        yield Finding(
            "note",
            f"{percent(share)} of what the decoder computes is padding.",
            "Raise data.block, so that more clips are sorted by duration together.",
        )


def waiting(log: Log) -> Findings:
    if log.latest and (share := fmean(row["waiting"] for row in log.latest)) > WASTE:
        yield Finding(
            "note",
            f"{percent(share)} of the time was spent waiting for clips.",
            "Cache the frozen encoder's frames (cache=true), or bring the clips to a local disk.",
        )


def left_out(log: Log) -> Findings:
    kept, dropped = sum(log.data.get("kept", {}).values()), log.data.get("dropped", {})
    lost = sum(dropped.values())
    if lost > DROPPED * (kept + lost):
        most = sorted(dropped, key=lambda reason: -dropped[reason])[:3]
        reasons = ", ".join(f"{reason}: {dropped[reason]:,}" for reason in most)
        share = lost / (kept + lost)
        yield Finding(
            "wrong" if share > MANY_DROPPED else "note",
            f"{percent(share)} of the clips were left out ({reasons}).",
            "data.json names their places: repair them, or fit data.min_s and data.max_s to them.",
        )


def known_texts(log: Log) -> Findings:
    shared, clips = log.data.get("shared_texts", 0), log.data.get("validation_clips", 0)
    if shared:
        yield Finding(
            "note",
            f"{shared:,} of {clips:,} validation texts occur in training too: the word error rate "
            f"is partly that of known sentences.",
            "Say so beside the figure, or give data.validation with sentences of its own.",
        )


CHECKS: tuple[Check, ...] = (padding, waiting, left_out, known_texts)
