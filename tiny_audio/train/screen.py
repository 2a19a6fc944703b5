"""What a training run shows while it goes on, beside the bar: a line for every evaluation."""

from __future__ import annotations

from typing import Any

from tiny_audio.progress import stderr


def say(text: str) -> None:
    """A line on stderr, as it is."""
    stderr.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class Lines:
    """Called with every row of metrics.jsonl; prints the starts and the evaluations."""

    def __call__(self, row: dict[str, Any]) -> None:
        if row["kind"] == "start":
            self.start(row)
        elif row["kind"] == "evaluation":
            self.evaluation(row)

    def start(self, row: dict[str, Any]) -> None:
        trains = ", ".join(f"{n:,} of the {part}" for part, n in row["trainable"].items() if n)
        say(f"{row['stage']}: trains {trains}; peak {row['peak_memory'] / 2**30:.1f} GiB")

    def evaluation(self, row: dict[str, Any]) -> None:
        gap = row["loss_shuffled"] - row["loss"]
        loss = f"loss {row['loss']:.2f} ({gap:+.2f} with another clip's sound)"
        accuracy = f"token accuracy {row['token_accuracy']:.1%}"
        say(f"{row['stage']} step {row['step']}: {wer(row)} WER · {loss} · {accuracy}")
        for sample in row["samples"][:1]:
            say(f"    said   {sample['text']}\n    heard  {sample['hypothesis']}")


class Rows(Lines):
    """A table that grows: time, loss, token accuracy, WER, and what one clip sounds like by now."""

    def start(self, row: dict[str, Any]) -> None:
        super().start(row)
        say("   time   step   loss   tokens right    WER   what it hears in one clip")

    def evaluation(self, row: dict[str, Any]) -> None:
        sample = row["samples"][0]
        if not hasattr(self, "told"):
            self.told = sample["text"]
            say(f"{'':48}({self.told})")
        say(
            f"{row['elapsed_s']:6.0f} s {row['step']:6} {row['loss']:6.2f} "
            f"{row['token_accuracy']:12.1%} {wer(row):>8}   {sample['hypothesis']}"
        )


def wer(row: dict[str, Any]) -> str:
    return "–" if row["wer"] is None else f"{row['wer']:.1%}"
