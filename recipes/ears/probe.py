"""`python -m recipes.ears.probe`: what a linear probe reads from the frames, one fold left out.

Ridge regression on mean and standard deviation over a clip, by layers and by the rate at which
frames are averaged before: seconds, where each row of the decoder's table takes minutes. It says
how much is in the frames, and so how much a connector loses. Frames come from the same folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.ears.esc10 import ESC10, FOLDS, clips
from recipes.ears.frames import ALL_LAYERS, FrameStore, encoder_config
from recipes.ears.train import ridge

OUT = Path("runs/ears/probe.json")
PENALTY = 0.03  # of each number of the statistics
LAYERS = ((0,), (1,), (2,), (3,), (4,), (0, 4), ALL_LAYERS)
RATES = (10.0, 2.0, 1.0)


def statistics(frames_TE: Tensor, deviation: bool) -> Tensor:
    """Mean over time, and standard deviation if asked for."""
    spread, mean = torch.std_mean(frames_TE, dim=0, unbiased=False)
    return torch.cat([mean, spread]) if deviation else mean


def answered(train_NF: Tensor, targets_N: Tensor, test_MF: Tensor) -> Tensor:
    """The class of each test clip, by ridge regression to +1 for its class and -1 for others."""
    spread, centre = torch.std_mean(train_NF, dim=0)
    train_NF, test_MF = ((x - centre) / (spread + 1e-6) for x in (train_NF, test_MF))
    wanted_NC = 2.0 * torch.nn.functional.one_hot(targets_N).double() - 1
    return (test_MF @ ridge(train_NF, wanted_NC, PENALTY)).argmax(-1)


def accuracies(features_NF: Tensor, targets_N: Tensor, folds_N: Tensor) -> list[float]:
    """The share of right answers about each fold, by a probe that never saw it."""
    found = []
    for fold in FOLDS:
        own = folds_N == fold
        said = answered(features_NF[~own], targets_N[~own], features_NF[own])
        found.append((said == targets_N[own]).double().mean().item())
    return found


def measured(data: str) -> list[dict[str, Any]]:
    """A row for every choice of layers, and one for every rate of all layers."""
    examples, store = clips(data), FrameStore()
    store.encode([e.sound for e in examples])
    names = sorted({e.text for e in examples})
    targets_N = torch.tensor([names.index(e.text) for e in examples])
    folds_N = torch.tensor([e.columns["fold"] for e in examples])
    asked: list[tuple[Sequence[int], float, bool]] = [(layers, 10.0, True) for layers in LAYERS]
    asked += [(ALL_LAYERS, hertz, True) for hertz in RATES[1:]]
    asked += [(ALL_LAYERS, 10.0, False)]
    rows = list[dict[str, Any]]()
    for layers, hertz, deviation in asked:
        config = encoder_config(layers, hertz)
        kept = [store.frames_of(e, config)[0].double() for e in examples]
        found = accuracies(
            torch.stack([statistics(f, deviation) for f in kept]), targets_N, folds_N
        )
        rows.append({"layers": list(layers), "hertz": hertz, "deviation": deviation})
        rows[-1] |= {"folds": found, "accuracy": sum(found) / len(found)}
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure, and write what was measured."""
    asked = argparse.ArgumentParser(prog="python -m recipes.ears.probe", description=__doc__)
    asked.add_argument("--data", default=ESC10)
    asked.add_argument("--out", type=Path, default=OUT)
    options = asked.parse_args()
    rows = measured(options.data)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"clips": "esc10", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
