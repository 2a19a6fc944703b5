"""Drawing a run: loss, token accuracy, word error rate and learning rate, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tiny_audio.model.errors import needing
from tiny_audio.train.track import Row, read_metrics

Axis = Literal["step", "minutes"]

# Okabe and Ito's colours, which stay apart in every kind of colour blindness; lines and markers
# differ too, for print.
REAL = {"color": "#0072B2", "marker": "o", "linestyle": "-"}
SHUFFLED = {"color": "#D55E00", "marker": "s", "linestyle": "--"}
SILENT = {"color": "#009E73", "marker": "^", "linestyle": ":"}
TRAIN = {"color": "#444444", "marker": "", "linestyle": "-"}
SHADES = ("#F2F2F2", "#FFFFFF")


class Line(NamedTuple):
    """One line of a panel: which rows, and which of their numbers."""

    label: str
    kind: str
    key: str
    style: dict[str, Any]


PANELS = {
    "loss": (
        Line("training", "train", "loss", TRAIN),
        Line("the clip itself", "evaluation", "loss", REAL),
        Line("another clip", "evaluation", "loss_shuffled", SHUFFLED),
        Line("silence", "evaluation", "loss_silent", SILENT),
    ),
    "token accuracy": (
        Line("training", "train", "token_accuracy", TRAIN),
        Line("the clip itself", "evaluation", "token_accuracy", REAL),
        Line("another clip", "evaluation", "token_accuracy_shuffled", SHUFFLED),
        Line("silence", "evaluation", "token_accuracy_silent", SILENT),
    ),
    "word error rate": (Line("the clip itself", "evaluation", "wer", REAL),),
    "learning rate": (Line("largest of all parts", "train", "learning_rate", TRAIN),),
}


SHARES = ("token accuracy", "word error rate")  # drawn in percent


class Span(NamedTuple):
    """A stage's part of the axis."""

    stage: str
    start: float
    end: float


def draw_curves(run: Path, over: Axis = "step") -> Path:
    """Draw `run`/metrics.jsonl into `run`/curves.png, over steps or minutes."""
    with needing("Drawing curves", "train"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    rows = read_metrics(run)
    spans, place = axis(rows, over)
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(run.name)
    grid = figure.subplots(2, 2, sharex=True)
    for panel, (title, lines) in zip(grid.flat, PANELS.items(), strict=True):
        _draw(panel, rows, lines, place)
        panel.set_ylim(bottom=0)
        if title in SHARES:
            panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        panel.set_title(title, loc="left", fontweight="bold", pad=22)
        _shade(panel, spans)
    for panel in grid[1]:
        panel.set_xlabel("steps" if over == "step" else over)
    path = run / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def axis(rows: Sequence[Row], over: Axis) -> tuple[list[Span], Callable[[Row], float]]:
    """Put stages one after another, each counted from zero; return where a row lies on them."""
    spans: list[Span] = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        start = spans[-1].end if spans else 0.0
        length = max(_own(row, over) for row in rows if row["stage"] == stage)
        spans.append(Span(stage, start, start + length))
    starts = {span.stage: span.start for span in spans}
    return spans, lambda row: starts[row["stage"]] + _own(row, over)


def _own(row: Row, over: Axis) -> float:
    return float(row["step"]) if over == "step" else row["elapsed_s"] / 60


def _draw(
    panel: Any, rows: Sequence[Row], lines: Sequence[Line], place: Callable[[Row], float]
) -> None:
    drawn = 0
    for line in lines:
        points = [
            (place(row), row[line.key])
            for row in rows
            if row["kind"] == line.kind and row.get(line.key) is not None
        ]
        if points:
            panel.plot(*zip(*points, strict=True), label=line.label, markersize=4, **line.style)
            drawn += 1
    if not drawn:
        panel.text(0.5, 0.5, "nothing yet", transform=panel.transAxes, ha="center", color="#444444")
    if drawn > 1:
        panel.legend(frameon=False, fontsize="small")
    panel.ticklabel_format(axis="y", scilimits=(-3, 4))
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _shade(panel: Any, spans: Sequence[Span]) -> None:
    """Draw stages as shaded stretches with their names above them."""
    above = panel.get_xaxis_transform()
    for number, (stage, start, end) in enumerate(spans):
        panel.axvspan(start, end, color=SHADES[number % 2], zorder=0)
        middle = (start + end) / 2
        panel.text(middle, 1.02, stage, transform=above, ha="center", fontsize="small")
