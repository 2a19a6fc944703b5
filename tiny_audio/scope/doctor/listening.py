"""What evaluations say: does the model listen, and what does it write.

A check takes the `Log` of a run and yields findings. The losses of the same answers after the clip
itself, after another clip and after silence tell listening from guessing.
"""

from __future__ import annotations

import math
import re

from tiny_audio.scope.doctor.log import Check, Finding, Findings, Log, Row, percent

# The share of the loss that the clip itself must take away. A decoder that only knows the language
# gains nothing from it; one that transcribes gains 80 % and more.
DEAF, LISTENS = 0.02, 0.2
# A few hundred clips do not tell token accuracies apart that are closer than this.
SAME_ACCURACY = 0.02
# Published runs left the plateau of the language prior after 500 to 5,000 steps (SLAM-LLM#113).
PLATEAU_STEPS = 5000
# Four of five tokens right, and yet every second word wrong: these two do not go together.
KNOWS, FAILS = 0.8, 0.5
# Validation clips may be harder than training clips, but not by a quarter of all tokens.
BEHIND = 0.25
# An answer that is cut off at its limit is rare; every tenth is a stop that was not learnt.
ENDED, MOST_ENDED = 0.9, 0.5
# Of the spoken clips: a few are too quiet to be heard, a fifth is not.
EMPTY, MANY_EMPTY = 0.05, 0.2
# Of the shown answers, of which there are eight: one may be an accident, three are not.
LOOPS = 0.3


def hears(log: Log) -> Findings:
    """The clip itself against another clip and silence."""
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
    """The share of the loss that the clip itself takes away; NaN where a loss is not finite."""
    without = min(row["loss_shuffled"], row["loss_silent"])
    finite = math.isfinite(row["loss"]) and math.isfinite(without) and without > 0
    return 1 - row["loss"] / without if finite else math.nan


def _deaf(log: Log, last: Row, losses: str) -> Finding:
    """On the plateau of the language prior, or worse."""
    before = [row["token_accuracy"] for row in log.of("evaluation")[-3:]]
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
    """To hear that somebody speaks is not to hear what is said."""
    last = log.evaluation
    if last is None or not gained(last) < DEAF:
        return
    if 1 - last["loss"] / last["loss_silent"] >= LISTENS:
        yield Finding(
            "wrong",
            "It tells speech from silence, but not one clip from another.",
            "Check that every prompt gets the embeddings of its own clip, in the order of rows.",
        )


def writes(log: Log) -> Findings:
    """What is written, beside what would be right token by token."""
    last = log.evaluation
    if last is None or last["wer"] is None:
        return
    wer, accuracy = last["wer"], last["token_accuracy"]
    if accuracy >= KNOWS and wer >= FAILS:
        yield Finding(
            "wrong",
            f"{percent(accuracy)} of the tokens are right where the text is given, but what it "
            f"writes by itself has {percent(wer)} wrong words.",
            "Compare training and use: the same prompt and template, padding on the left when "
            "writing, the encoder in evaluation mode, enough new tokens, a stop that was learnt.",
        )
    else:
        yield Finding("ok", f"The word error rate is {percent(wer)} on {last['clips']:,} clips.")


def generalises(log: Log) -> Findings:
    """Training clips against validation clips."""
    last, rows = log.evaluation, log.latest
    if last is None or not rows:
        return
    trained, heard = rows[-1]["token_accuracy"], last["token_accuracy"]
    if trained - heard > BEHIND:
        yield Finding(
            "wrong" if trained >= KNOWS else "note",
            f"Of its training clips it gets {percent(trained)} of the tokens right, of the "
            f"validation clips {percent(heard)}.",
            "Few clips are learnt by heart: give more, or data.augment. With many clips look for a "
            "difference between the two: style of text, prompt, volume, kind of sound.",
        )


def ends(log: Log) -> Findings:
    last = log.evaluation
    if last is None:
        return
    if last["ended"] < ENDED:
        yield Finding(
            "wrong" if last["ended"] < MOST_ENDED else "note",
            f"Only {percent(last['ended'])} of the answers end with a stop token.",
            "Train longer; if it stays, take a decoder whose template ends with a stop that was "
            "trained (an instruct model, no base model).",
        )
    if last["empty"] > EMPTY:
        yield Finding(
            "wrong" if last["empty"] > MANY_EMPTY else "note",
            f"{percent(last['empty'])} of the spoken clips get an empty answer.",
            "Lower data.nonspeech, look for empty texts in the data, and listen to these clips.",
        )


def loops(log: Log) -> Findings:
    last = log.evaluation
    samples = last["samples"] if last else []
    caught = [s["hypothesis"] for s in samples if repeats(s["hypothesis"], s["text"])]
    if caught:
        yield Finding(
            "wrong" if len(caught) > LOOPS * len(samples) else "note",
            f"{len(caught)} of {len(samples)} shown answers run in circles, for example "
            f"{caught[0][:60]!r}.",
            "Train longer; if it stays, add data.nonspeech, and check that answers end by a stop.",
        )


def repeats(hypothesis: str, text: str) -> bool:
    """One to five words said four times in a row, where the text has no such run."""
    again = re.compile(r"\b(\w+(?:\W+\w+){0,4})(?:\W+\1\b){3,}")
    return bool(again.search(hypothesis)) and not again.search(text)


CHECKS: tuple[Check, ...] = (hears, tells_clips_apart, writes, generalises, ends, loops)
