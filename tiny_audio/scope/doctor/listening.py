"""Checks of evaluations: does the model listen, to the words too, and to clips that are new to it.

A check takes the `Log` of a run and yields findings. The losses of the same answers after the clip
itself, after another clip and after silence tell listening from guessing.
"""

from __future__ import annotations

import math

from tiny_audio.scope.doctor.log import Check, Finding, Findings, Log, Row, percent

# The share of the loss that the clip itself must take away. A decoder that only knows the language
# gains nothing from it; one that transcribes gains 80 % and more.
DEAF, LISTENS = 0.02, 0.2
# With a few hundred clips, token accuracies that differ by less than this count as equal.
SAME_ACCURACY = 0.02
# Published runs left the plateau of the language prior after 500 to 5,000 steps (SLAM-LLM#113).
PLATEAU_STEPS = 5000
# Four of five tokens right: the training clips are known.
KNOWS = 0.8
# Validation clips may be harder than training clips, but not by a quarter of all tokens.
BEHIND = 0.25


def hears(log: Log) -> Findings:
    """Compare the clip itself with another clip and silence."""
    last = log.evaluation
    if last is None:
        yield Finding(
            "note",
            "Nothing was evaluated yet, so nobody knows whether the model listens.",
            "Give data.validation or data.validation_speakers, and a smaller evaluate_every_s.",
        )
        return
    gain = gained(last)
    losses = (
        f"loss {last['loss']:.2f}, with another clip {last['loss_shuffled']:.2f}, with silence "
        f"{last['loss_silent']:.2f}"
    )
    if gain < DEAF:
        yield _deaf(log, last, losses)
    elif gain < LISTENS:
        seen = (
            f"The model begins to listen: its clip takes {percent(gain)} off the loss ({losses})."
        )
        yield Finding("note", seen, "Train longer, and look whether this share still grows.")
    elif gain >= LISTENS:
        yield Finding(
            "ok", f"The model listens: its clip takes {percent(gain)} off the loss ({losses})."
        )


def gained(row: Row) -> float:
    """Return the share of the loss that the clip takes away; NaN if one is not finite."""
    without = min(row["loss_shuffled"], row["loss_silent"])
    finite = math.isfinite(row["loss"]) and math.isfinite(without) and without > 0
    return 1 - row["loss"] / without if finite else math.nan


def _deaf(log: Log, last: Row, losses: str) -> Finding:
    """Describe a model on the plateau of the language prior, or worse."""
    before = [row["token_accuracy"] for row in log.evaluations[-3:]]
    same = abs(last["token_accuracy"] - last["token_accuracy_shuffled"]) < SAME_ACCURACY
    where = "it writes what is likely, whatever it hears"
    if same and max(before) - min(before) < SAME_ACCURACY:
        right = percent(last["token_accuracy"])
        where = (
            f"it is on the plateau of the language prior, {right} of the tokens right either way"
        )
    if log.num_steps < PLATEAU_STEPS:
        step = (
            f"After {log.num_steps:,} steps this is usual: published runs left the plateau between "
            f"500 and {PLATEAU_STEPS:,}. Train longer, or raise the projector's rate towards 1e-3."
        )
    else:
        step = (
            "Learn eight clips by heart first. Where that fails too, audio does not reach the "
            "decoder (prompt, lengths, embedding scale); else raise the projector's learning rate."
        )
    return Finding("wrong", f"The model does not listen; {where} ({losses}).", step)


def tells_clips_apart(log: Log) -> Findings:
    """Find a model that tells speech from silence, but not one clip from another."""
    last = log.evaluation
    if last is None or not gained(last) < DEAF:
        return
    if 1 - last["loss"] / last["loss_silent"] >= LISTENS:
        yield Finding(
            "wrong",
            "It tells speech from silence, but not one clip from another.",
            "Check that every prompt gets the embeddings of its own clip, in the order of rows.",
        )


def generalises(log: Log) -> Findings:
    """Compare training clips with validation clips."""
    last, rows = log.evaluation, log.latest
    if last is None or not rows:
        return
    trained, validated = rows[-1]["token_accuracy"], last["token_accuracy"]
    if trained - validated <= BEHIND:
        return
    seen = (
        f"It gets {percent(trained)} of the tokens of its training clips right, and "
        f"{percent(validated)} of those of the validation clips"
    )
    if log.improves:
        yield Finding(
            "note",
            f"{seen}; the validation loss still falls.",
            "Train on while it falls. More clips, or data.augment, make the difference smaller.",
        )
        return
    yield Finding(
        "wrong" if trained >= KNOWS else "note",
        f"{seen}.",
        "Few clips are learnt by heart: give more, or data.augment. With many clips look for a "
        "difference between the two: style of text, prompt, volume, kind of sound.",
    )


CHECKS: tuple[Check, ...] = (hears, tells_clips_apart, generalises)
