"""Load every file of a folder in this process and print one JSON line for each.

`python file_worker.py FOLDER SECONDS`; a timer of processor time (a busy machine does not matter)
ends the process when one file takes longer, so the parent finds the culprit after the last line,
and the same for a crash.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import torch

from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import TinyAudioError


def outcome(path: Path) -> dict[str, object]:
    """Load one file and describe what came of it."""
    start = time.perf_counter()
    try:
        samples = load_audio(path).samples
        finite = bool(torch.isfinite(samples).all())
        result: dict[str, object] = {
            "kind": "decode" if finite and samples.dtype == torch.float32 else "unsound",
            "num_samples": len(samples),
            "rms": float(samples.square().mean().sqrt()),
        }
    except TinyAudioError as error:
        result = {"kind": "error", "message": str(error)}
    except Exception as error:
        result = {"kind": "unexpected", "message": repr(error)}
    result["seconds"] = round(time.perf_counter() - start, 3)
    # Not ru_maxrss: that keeps what the parent held when it forked this process.
    status = Path("/proc/self/status").read_text()
    result["peak_mb"] = int(status.split("VmHWM:")[1].split()[0]) // 1024
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    for file in sorted(Path(sys.argv[1]).iterdir()):
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))  # its signal ends the process
        print(json.dumps({"name": file.name, **outcome(file)}), flush=True)
