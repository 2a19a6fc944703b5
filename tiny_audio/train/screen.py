"""The lines that a training run prints beside the bar, one for every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiny_audio.progress import say, written

SENTENCE = 5  # words, so that a reader sees a sentence become right


class Lines:
    """A watcher of metrics.jsonl that prints the starts of stages and the evaluations."""

    def __call__(self, row: dict[str, Any]) -> None:
        if row["kind"] == "start":
            self.start(row)
        elif row["kind"] == "evaluation":
            self.evaluation(row)

    def start(self, row: dict[str, Any]) -> None:
        trains = ", ".join(f"{n:,} of the {part}" for part, n in row["trainable"].items() if n)
        peak = f"peak memory {row['peak_memory'] / 2**30:.1f} GiB"
        say(f"stage {row['stage']} trains {trains}; {peak}")

    def evaluation(self, row: dict[str, Any]) -> None:
        gap = row["loss_shuffled"] - row["loss"]
        loss = f"loss {row['loss']:.2f} ({gap:+.2f} after another clip)"
        accuracy = f"token accuracy {row['token_accuracy']:.1%}"
        rate = f"{wer(row)} WER ({settings(row)})"
        say(f"stage {row['stage']}, step {row['step']}: {rate} · {loss} · {accuracy}")
        sample = watched(row["samples"])
        hypothesis = written(sample["hypothesis"])
        say(f"    reference   {sample['text']}\n    hypothesis  {hypothesis}")


class Rows(Lines):
    """A table that grows: time, the three losses, token accuracy, WER, and the text of one clip.

    The losses are those of the same answers after the clip itself, another clip and silence. They
    start together, and part when the model begins to listen.
    """

    def start(self, row: dict[str, Any]) -> None:
        super().start(row)
        say("                  loss of the right texts after    tokens")
        say("  time    step   the clip  another clip  silence    right      WER*")

    def evaluation(self, row: dict[str, Any]) -> None:
        sample = watched(row["samples"])
        if not hasattr(self, "reference"):
            self.reference = sample["text"]
            say(f"{'':9}* {settings(row)}")
            say(f"{'':9}One clip is shown; its right text is: {self.reference}")
        losses = (row["loss"], row["loss_shuffled"], row["loss_silent"])
        clip, another, silent = (f"{loss:.2f}" for loss in losses)
        say(
            f"{row['elapsed_s']:4.0f} s {row['step']:7} {clip:>10} {another:>13} {silent:>8} "
            f"{row['token_accuracy']:8.1%} {wer(row):>8}"
        )
        say(f"{'':9}it writes: {written(sample['hypothesis'])}")


def watched(samples: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the sample that is shown: the first that is a sentence, or else the longest."""
    sentences = [s for s in samples if len(s["text"].split()) >= SENTENCE]
    return sentences[0] if sentences else max(samples, key=lambda s: len(s["text"].split()))


def settings(row: dict[str, Any]) -> str:
    """Say what a word error rate depends on: the normaliser, and how texts are found."""
    beams = row["beams"]
    return f"normaliser {row['normalizer']}, {f'{beams} beams' if beams > 1 else 'greedy'}"


def wer(row: dict[str, Any]) -> str:
    """Return the word error rate of an evaluation as a percentage; – where nothing was said."""
    return "–" if row["wer"] is None else f"{row['wer']:.1%}"
