"""Load hostile checkpoints one after another and say, a line of JSON each, what became of them.

`python tests/hostile/checkpoint_worker.py FOLDER small|all|full` in a process of its own, so that a
crash or a hang names its culprit.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.hostile_checkpoints import MARK, cases, copied, good_checkpoint

import tiny_audio


def resident(field: str) -> int:
    """A field of /proc/self/status, in megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) // 1024


def processor_s() -> float:
    """Of this process and those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main(folder: Path, size: str) -> None:
    good = good_checkpoint(folder / "good")
    tiny_audio.load(good)
    os.chdir(folder)
    for case in cases(full=size == "full"):
        if size == "small" and not case.small:
            continue
        spoiled = copied(good, folder / "spoiled", case)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, cpu, wall = resident("VmRSS"), processor_s(), time.monotonic()
        kind, message = "loaded", ""
        try:
            tiny_audio.load(spoiled)
        except BaseException as error:
            kind, message = type(error).__name__, str(error)
        found = {
            "name": case.name,
            "kind": kind,
            "message": message[:400],
            "processor_s": round(processor_s() - cpu, 2),
            "wall_s": round(time.monotonic() - wall, 2),
            "grown_mb": resident("VmHWM") - before,
            "ran_code": Path(MARK).exists() or (spoiled / MARK).exists(),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
