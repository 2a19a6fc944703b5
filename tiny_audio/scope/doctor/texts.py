"""Checks of the texts in evaluations: how many words are wrong, how answers end, and loops."""

from __future__ import annotations

import re

from tiny_audio.scope.doctor.listening import KNOWS
from tiny_audio.scope.doctor.log import Check, Finding, Findings, Log, percent
from tiny_audio.scope.doctor.training import still_falls

# Up to the first rate a text is easy to read; from the second on it cannot be read at all.
READABLE, UNREADABLE = 0.3, 0.9
# Four of five tokens right and every second word wrong contradict each other.
FAILS = 0.5
# An answer that is cut off at its limit is rare; every tenth is a stop that was not learnt.
ENDED, MOST_ENDED = 0.9, 0.5
# Of the spoken clips: a few are too quiet to be transcribed, a fifth is not.
EMPTY, MANY_EMPTY = 0.05, 0.2
# Of the shown answers, of which there are eight: one may be an accident, three are not.
LOOPS = 0.3


def writes(log: Log) -> Findings:
    """Judge the word error rate beside the accuracy of tokens after the right text."""
    last = log.evaluation
    if last is None or last["wer"] is None:
        return
    wer, accuracy = last["wer"], last["token_accuracy"]
    seen = f"The word error rate is {percent(wer)} on {last['clips']:,} validation clips"
    if log.result.get("wer") is not None and log.result.get("clips", 0) > last["clips"]:
        seen += f" of the last evaluation, {percent(log.result['wer'])} on all"
        seen += f" {log.result['clips']:,} at the end"
    if accuracy >= KNOWS and wer >= FAILS:
        yield Finding(
            "wrong",
            f"{percent(accuracy)} of the tokens are right where the text before them is given, but "
            f"what it writes by itself has a word error rate of {percent(wer)}.",
            "Compare training and use: the same prompt and template, padding on the left when "
            "writing, the encoder in evaluation mode, enough new tokens, a stop that was learnt.",
        )
    elif wer < READABLE:
        yield Finding("ok", f"{seen}.")
    else:
        yield _unreadable(log, wer, seen)


def _unreadable(log: Log, wer: float, seen: str) -> Finding:
    """Judge too many wrong words: broken where more training would not help, else not ready yet."""
    useless = wer >= UNREADABLE
    meaning = "its texts are of no use yet" if useless else "its texts need correction"
    stuck = useless and still_falls(log) is False
    step = (
        "The loss has levelled off, so more steps will not help: look at the other findings, at "
        "the texts of the clips, and train another part too."
        if stuck
        else "Train longer, on more clips, or with larger parts."
    )
    return Finding("wrong" if stuck else "note", f"{seen}: {meaning}.", step)


def ends(log: Log) -> Findings:
    """Find answers that never stop, and spoken clips that get no answer."""
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
        useless = last["wer"] is not None and last["wer"] >= UNREADABLE
        early = useless and still_falls(log) is not False  # texts come later
        nonspeech = (log.recipe.get("data") or {}).get("nonspeech", 0)
        cure = "Lower data.nonspeech" if nonspeech else "Train longer; if it stays"
        yield Finding(
            "wrong" if last["empty"] > MANY_EMPTY and not early else "note",
            f"{percent(last['empty'])} of the spoken clips get an empty answer.",
            f"{cure}, look for empty texts in the data, and listen to these clips.",
        )


def loops(log: Log) -> Findings:
    """Find answers that repeat themselves until they are cut off."""
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
    """Tell whether one to five words stand four times in a row, unlike in the reference."""
    again = re.compile(r"\b(\w+(?:\W+\w+){0,4})(?:\W+\1\b){3,}")
    return bool(again.search(hypothesis)) and not again.search(text)


CHECKS: tuple[Check, ...] = (writes, ends, loops)
