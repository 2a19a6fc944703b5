"""Predictions, and the folders that `tiny-audio eval` writes, with answers made up here."""

from pathlib import Path
from typing import Any

import toys

from tiny_audio.evaluate.evaluator import PREDICTIONS, RUN, finish
from tiny_audio.evaluate.metrics import utterances
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.evaluate.predictions import Prediction
from tiny_audio.evaluate.provenance import made
from tiny_audio.evaluate.result import clips_hash
from tiny_audio.files import write_json

SPOILT = {  # clip → what is answered in place of its text
    1: "",
    2: None,
    3: "<img src=x onerror=alert(1)> & </script><script>document.title='stolen'</script>",
    5: "turn turn turn on the on the",
    6: "well " * 60,
}


def prediction(number, ref, hyp, **fields):
    outcome = "error" if hyp is None else "ok"
    values = {"id": f"clips:{number}", "outcome": outcome, "duration_s": 2.0, "seconds": 0.5}
    return Prediction(**{**values, "ref": ref, "hyp": hyp, **fields})


def scored(*pairs, normal="none"):
    return utterances([prediction(n, *pair) for n, pair in enumerate(pairs)], normalizer(normal))


def predictions(spoilt: dict[int, str | None], name: str) -> list[Prediction]:
    """The repository's eight samples, three times over, answered right but for `spoilt`."""
    rows = []
    for n in range(24):
        path, text = toys.samples()[n % 8]
        hyp = spoilt.get(n, text)
        fields = {"id": f"c{n}", "duration_s": 2.0 + n, "seconds": 0.25, "audio": str(path)}
        fields["columns"] = {"speaker": f"s{n % 3}", "age": 20 + n, "system": name}
        fields["outcome"] = "error" if hyp is None else "ok" if hyp else "no_speech"
        fields["error"] = "no memory" if hyp is None else ""
        rows.append(prediction(n, text, hyp, **fields))
    return rows


def write_run(
    folder: Path,
    spoilt: dict[int, str | None] | None = None,
    name: str = "nano",
    dataset: str = "samples",
    normal: str = "plain",
) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run and its result."""
    folder.mkdir(parents=True)
    rows = predictions(SPOILT if spoilt is None else spoilt, name)
    (folder / PREDICTIONS).write_text("".join(row.to_line() for row in rows), encoding="utf-8")
    clips = clips_hash((p.id, p.ref, p.duration_s) for p in rows)
    run = {
        "format": "tiny-audio run 1",
        "task": "transcription",
        "system": {"name": name, "kind": "tiny-audio"},
        "dataset": {
            "name": dataset,
            "split": "test",
            "where": [],
            "max_samples": 0,
            "condition": "",
            "clips_sha256": clips,
        },
        "normalizer": normalizer(normal).to_dict(),
        "prompt": "",
        "seed": 42,
        "batch_s": 60.0,
        "made": made("cpu"),
    }
    write_json(folder / RUN, run)
    return folder, finish(folder, normalizer(normal))
