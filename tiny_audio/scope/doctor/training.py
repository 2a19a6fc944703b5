"""Checks of training rows: is the loss finite, steady, still falling; are rates and scales
right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

from tiny_audio.scope.doctor.listening import DEAF, gained
from tiny_audio.scope.doctor.log import Check, Finding, Findings, Log, Row, percent

# Published configurations train projectors with 1e-4 to 2e-3; half of the smallest and twice the
# largest are outside of all of them.
RATE_LOW, RATE_HIGH = 5e-5, 4e-3
# If warm-up takes half of a stage, the full rate is hardly ever reached.
WARMUP_SHARE = 0.5
# A stage of fewer steps is too short; one that is lengthened gets so many times its warm-up.
FEW_STEPS, LONGER = 100, 10
# Share of skipped steps: single ones are normal, one in a hundred has a cause.
SKIPPED = 0.01
# Norms are means over a window; ten times the usual hides single steps that are far worse.
EXPLODES, MANY_EXPLOSIONS = 10.0, 3
# The end of a stage compared with its best tenth: tenths of a steady run differ by less.
RISES = 1.15
# Two evaluations in a row against the best one; single ones of 100 clips differ by a tenth.
FORGETS = 1.25
# Audio embeddings over text embeddings: a factor of three is still the same size (trap T27).
SCALE = (0.3, 3.0)
# What the slope of the last third has brought, and in how many of its standard errors: two of them
# are exceeded by chance in one run of forty.
STILL_FALLS, SURE = 0.02, 3.0
# The fewest rows that give a slope or a usual norm.
MIN_ROWS = 12


def is_finite(log: Log) -> Findings:
    """Check that the loss is finite at the end; single steps that were skipped do not count."""
    lost = [row for row in log.latest if not math.isfinite(row["loss"])]
    last = log.evaluation
    at_the_end = bool(lost) and lost[-1] is log.latest[-1]
    if at_the_end or (last is not None and not math.isfinite(last["loss"])):
        since = lost[0]["step"] if lost else log.num_steps
        yield Finding(
            "wrong",
            f"The loss of {log.stages[-1]} is not finite at the end, first at step {since:,}.",
            "Go on from a save before that with a third of the learning rate, in bf16 and not in "
            "fp16. If it was so from the first step on, look for clips without a text.",
        )


def skipped(log: Log) -> Findings:
    lost = sum(row["skipped"] for row in log.of("train"))
    if lost:
        yield Finding(
            "wrong" if lost > SKIPPED * log.num_steps else "note",
            f"{lost:,.0f} of {log.num_steps:,} steps had no finite gradient and changed nothing.",
            "One in thousands does no harm. If they are more, divide the learning rate by three.",
        )


def norms(log: Log) -> Findings:
    """Find explosions after the first tenth of a stage, in which gradients are large anyway."""
    for stage in log.stages:
        rows = log.training(stage)
        known = [r for r in rows[len(rows) // 10 :] if math.isfinite(r["norm"])]
        if len(known) < MIN_ROWS:
            continue
        usual = median(r["norm"] for r in known)
        wild = [r for r in known if r["norm"] > EXPLODES * usual]
        if wild:
            highest = max(r["norm"] for r in wild)
            yield Finding(
                "wrong" if len(wild) >= MANY_EXPLOSIONS else "note",
                f"The gradient exploded in {len(wild)} rows of {stage}, up to a norm of "
                f"{highest:.3g} where {usual:.3g} is usual, first at step {wild[0]['step']:,}.",
                "Halve the learning rate or clip_norm, and listen to the clips of these steps.",
            )


def rates(log: Log) -> Findings:
    """Find rates that are too small to begin with, too large to stay down, or hardly reached."""
    if not log.latest:
        return
    stage, last = log.stages[-1], log.evaluation
    rate = rate_of(log, stage)
    at = f"stages.{stage}.learning_rate"
    if rate < RATE_LOW and last is not None and gained(last) < DEAF:
        yield Finding(
            "wrong",
            f"A learning rate of {rate:.2g} is too small for a model that does not listen yet.",
            f"Set {at}.projector=1e-3; published recipes have 1e-4 to 2e-3.",
        )
    grown = rise(log.latest)
    if grown and log.improves:
        yield Finding(
            "note",
            f"The loss of {stage} ends {percent(grown)} above its best, while that of the "
            f"validation clips ends at its best.",
            "Look at the validation loss: as long as it falls, nothing has to be changed.",
        )
    elif grown:
        far = ", far above the published 1e-4 to 2e-3" if rate > RATE_HIGH else ""
        yield Finding(
            "wrong",
            f"The loss of {stage} ends {percent(grown)} above its best; the learning rate was "
            f"{rate:.2g}{far}.",
            f"Divide {at} by three and train this stage anew.",
        )
    warmup, steps = log.asked(stage).get("warmup_steps", 0), log.latest[-1]["step"]
    if warmup > WARMUP_SHARE * steps:
        yield Finding(
            "note",
            f"Of the {steps:,} steps of {stage}, {min(warmup, steps):,} were warm-up.",
            shorter_warmup(log, stage, warmup, steps),
        )


def shorter_warmup(log: Log, stage: str, warmup: int, steps: int) -> str:
    """Return the advice for a stage that is mostly warm-up: a shorter warm-up, or a longer stage if
    it has so few steps that they teach little.
    """
    if steps >= FEW_STEPS:
        return f"In so short a stage set stages.{stage}.warmup_steps={steps // 20}."
    asked, needed = log.asked(stage), LONGER * warmup
    budget = next((key for key in ("minutes", "epochs") if asked.get(key)), "steps")
    if budget != "steps":
        needed = math.ceil(needed / steps * asked[budget])
    cure = f"set stages.{stage}.{budget}={needed}"
    if log.recipe.get("name") == "quickstart":
        cure = f"type tiny-audio quickstart --minutes {needed} --fresh"
    return f"So few steps teach little: {cure}."


def rate_of(log: Log, stage: str) -> float:
    """Return the projector's rate in the recipe; without one, the highest that was logged."""
    asked = (log.asked(stage).get("learning_rate") or {}).get("projector")
    return float(asked or max(row["learning_rate"] for row in log.training(stage)))


def rise(rows: Sequence[Row]) -> float:
    """Return how far the last tenth lies above the best tenth, where that is more than chance."""
    losses = [row["loss"] for row in rows if math.isfinite(row["loss"])]
    if len(losses) < MIN_ROWS:
        return 0.0
    size = max(3, len(losses) // 10)
    tenths = [fmean(losses[start : start + size]) for start in range(len(losses) - size + 1)]
    grown = tenths[-1] / min(tenths)
    return grown - 1 if grown > RISES else 0.0


def trend(log: Log) -> Findings:
    """Say by a line through the last third of a run whether more training would help."""
    last, rows = log.evaluation, last_third(log)
    falls = still_falls(log)
    if falls is None or (last is not None and gained(last) < DEAF):
        return
    span, level = rows[-1]["step"] - rows[0]["step"], fmean(r["loss"] for r in rows)
    if falls:
        fallen = -_slope(rows)[0] * span / level
        yield Finding(
            "note",
            f"The loss was still falling, by {percent(fallen)} over the last {span:,} steps.",
            "Train longer: twice the steps, minutes or epochs.",
        )
    else:
        yield Finding(
            "ok",
            f"The loss has levelled off at {level:.2f}.",
            "More of the same steps would bring little; more clips might, or another part that "
            "trains too (LoRA on the decoder).",
        )


def last_third(log: Log) -> list[Row]:
    """Return the rows through which a straight line tells where the loss is going."""
    rows = _finite(log)
    return rows[-max(4, len(rows) // 3) :]


def _finite(log: Log) -> list[Row]:
    return [row for row in log.latest if math.isfinite(row["loss"])]


def still_falls(log: Log) -> bool | None:
    """Tell whether the training loss still falls; None where the rows are too few, or it rises."""
    if len(_finite(log)) < MIN_ROWS or rise(log.latest):
        return None
    rows = last_third(log)
    slope, error = _slope(rows)
    span, level = rows[-1]["step"] - rows[0]["step"], fmean(r["loss"] for r in rows)
    return -slope * span / level > STILL_FALLS and -slope > SURE * error


def _slope(rows: Sequence[Row]) -> tuple[float, float]:
    return line([row["step"] for row in rows], [row["loss"] for row in rows])


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return the least-squares slope of y over x, and its standard error."""
    mean_x, mean_y = fmean(x), fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(rest / (len(x) - 2) / spread)


def forgets(log: Log) -> Findings:
    """Find evaluations that get worse while training goes on."""
    found = [row for row in log.evaluations if math.isfinite(row["loss"])]
    best = min(found, key=lambda row: row["loss"], default=None)
    if best is None or len(found) < 3 or rise(log.latest):
        return
    if min(row["loss"] for row in found[-2:]) > FORGETS * best["loss"]:
        yield Finding(
            "note",
            f"On validation clips the loss was best at step {best['step']:,} of {best['stage']} "
            f"({best['loss']:.2f}, now {found[-1]['loss']:.2f}): it learns its clips by heart.",
            f"{best['stage']}/best has the model with the fewest wrong words. Next time give more "
            f"clips, data.augment or fewer steps.",
        )


def begins(log: Log) -> Findings:
    """Check the first row of every stage: what trains, and how large its audio embeddings are."""
    for row in log.of("start"):
        stage, scale = row["stage"], row["embedding_scale"]
        if not sum(row["trainable"].values()):
            step = f"Name a part in stages.{stage}.learning_rate."
            yield Finding("wrong", f"Nothing trains in {stage}.", step)
        if scale is not None and not SCALE[0] <= scale <= SCALE[1]:
            yield Finding(
                "wrong",
                f"{stage} began with audio embeddings {scale:.2g} times as large as those of text.",
                "Begin with a fresh projector, which is brought to the decoder's scale, or with a "
                "checkpoint that was trained with this decoder.",
            )
    if not log.of("train"):
        yield Finding("note", "No training step was logged yet.", "Look again later.")


CHECKS: tuple[Check, ...] = (is_finite, skipped, norms, rates, trend, forgets, begins)
