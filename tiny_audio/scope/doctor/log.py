"""The log of a run, and findings about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Row = dict[str, Any]
# A loss this close to the best one counts as the best: a few hundred clips are not more exact.
AT_BEST = 1.02


@dataclass(frozen=True)
class Finding:
    """A judgement: what was seen, and the next step (empty where there is nothing to be done)."""

    level: Literal["ok", "note", "wrong"]
    text: str
    step: str = ""


@dataclass(frozen=True)
class Log:
    """The log of a run: `rows` of metrics.jsonl, data.json, recipe.yaml and result.json; all but
    the first may be empty.
    """

    rows: Sequence[Row]
    data: dict[str, Any]
    recipe: dict[str, Any]
    result: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row["kind"] == kind]

    @property
    def stages(self) -> list[str]:
        """Return the stages in their order; the last is the one that matters most."""
        return list(dict.fromkeys(row["stage"] for row in self.rows))

    def training(self, stage: str) -> list[Row]:
        return [row for row in self.of("train") if row["stage"] == stage]

    @property
    def latest(self) -> list[Row]:
        """Return the training rows of the last stage."""
        return self.training(self.stages[-1]) if self.rows else []

    @property
    def num_steps(self) -> int:
        return sum(rows[-1]["step"] for stage in self.stages if (rows := self.training(stage)))

    @property
    def evaluations(self) -> list[Row]:
        """Return all evaluations but those before a stage's first step."""
        return [row for row in self.of("evaluation") if row["step"]]

    @property
    def evaluation(self) -> Row | None:
        """Return the last evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def improves(self) -> bool:
        """Tell whether the validation loss of the last stage has fallen and ends at its best."""
        found = [row["loss"] for row in self.of("evaluation") if row["stage"] == self.stages[-1]]
        return len(found) > 1 and found[-1] < found[0] and found[-1] <= AT_BEST * min(found)

    def asked(self, stage: str) -> dict[str, Any]:
        """Return what the recipe says of a stage."""
        found: dict[str, Any] = self.recipe.get("stages", {}).get(stage, {})
        return found


Findings = Iterator[Finding]
Check = Callable[[Log], Findings]


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"
