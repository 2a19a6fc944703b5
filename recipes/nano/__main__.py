"""Make nano, part by part: `python -m recipes.nano STAGE`.

Stages in order: corpus, encoder, decoder, frames, align, joint, pack, evaluate, samples; `head` and
`joint --from-preset` train a packed model further. Everything is written below `--folder` (default
runs/nano); every training stage takes up its last save.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.nano import pack, stages
from tiny_audio.train.distributed import launch

STAGES = {
    "corpus": stages.make_corpus,
    "encoder": stages.train_encoder,
    "head": stages.train_head,
    "decoder": stages.train_decoder,
    "frames": stages.cache_frames,
    "align": stages.train_alignment,
    "joint": stages.train_jointly,
    "evaluate": stages.evaluate,
    "pack": stages.pack_preset,
    "samples": stages.make_samples,
}
IN_PARALLEL = {"encoder", "head", "decoder", "frames", "align", "joint"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.nano", description=__doc__)
    add = parser.add_argument
    add("stage", choices=STAGES)
    add("--folder", type=Path, default=Path("runs/nano"))
    add("--seed", type=int, default=0)
    add("--clips", type=int, default=48_000, help="synthetic clips of the corpus")
    add("--open-clips", type=int, default=0, help="more clips, of open sentences alone")
    add("--minutes", type=float, default=0.0, help="wall-clock budget of a stage")
    add("--steps", type=int, default=0, help="budget in steps instead")
    add("--learning-rate", type=float, default=2e-3)
    add("--batch-seconds", type=float, default=32.0, help="of an encoder step, each process")
    add("--rows", type=int, default=32, help="rows of a decoder or align step, each process")
    add("--shards", type=int, default=40, help="frame shards of 40 minutes each")
    add("--digits", type=float, default=0.3, help="joint: share of human digits")
    add("--trained", choices=["joint", "align", "projector"], default="joint", help="pack: which")
    add("--from-preset", action="store_true", help="start from the packed model")
    add("--freeze-decoder", action="store_true", help="align: a fresh projector alone")
    add("--without-readers", action="store_true", help="decoder: no texts of speechocean762")
    add("--processes", type=int, default=2, help="of the training stages, one thread each")
    add("--preset", type=Path, default=pack.PRESET)
    add("--samples", type=Path, default=pack.PRESET.parents[2] / "samples")
    add("--out", type=Path, help="evaluate: folder for figures and texts")
    add("--beams", type=int, default=1, help="evaluate: texts to search among; 1 is greedy")
    arguments = parser.parse_args()
    processes = arguments.processes if arguments.stage in IN_PARALLEL else 1
    launch(STAGES[arguments.stage], arguments, processes)


if __name__ == "__main__":
    main()
