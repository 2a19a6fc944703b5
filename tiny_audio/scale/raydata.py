"""The clips of a manifest through a Ray Data pipeline.

Clips are read and decoded by actors on processors, texts are written by actors that hold the model,
on GPUs or processors; Ray starts more of both while there is work, and starts lost ones again. One
process, the one that began the job, keeps the lines: what a lost actor had not handed over is made
again, and what comes twice is kept once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiny_audio.infer.jobs import Failed
from tiny_audio.infer.transcriber import Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, stream_audio
from tiny_audio.model.errors import TinyAudioError, needing
from tiny_audio.scale.shards import Clip, Line, Work, answers, by_prompt, clips_of, line_of

AT_ONCE = 32  # clips that a model's actor is given together: as many as share a pool of windows
Rows = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """The address of a running cluster (None starts one here), and how many actors at most."""

    workers: int = 1
    address: str | None = None


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Lend the library of Ray for the time of a job; a cluster that was there is left running."""
    # Begun by `uv run`, Ray would copy the working directory, and sync it for every actor.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    with needing("tiny-audio transcribe --engine ray", "ray"):
        import ray
        import ray.data
    here = not ray.is_initialized()
    if here:
        ray.init(cluster.address, log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if here:
            ray.shutdown()


class Reader:
    """An actor that decodes: it takes a clip's number and gives its samples, or an error."""

    def __init__(self, manifest: str):
        self.clips = clips_of(Path(manifest))

    def __call__(self, row: Rows) -> Rows:
        clip, notes = self.clips[row["number"]], list[str]()
        row = {"id": clip.id, "prompt": clip.prompt}
        try:
            blocks = [np.asarray(block) for block in stream_audio(clip.source(), notes=notes)]
        except TinyAudioError as error:
            line = json.dumps(line_of(clip.id, Failed(clip.id, error)))
            return {**row, "samples": b"", "notes": "[]", "failed": line}
        samples = np.concatenate(blocks).astype(np.float32).tobytes()
        noted = json.dumps([str(note) for note in notes])
        return {**row, "samples": samples, "notes": noted, "failed": ""}


class Writer:
    """An actor that holds the model: it takes samples and gives lines."""

    def __init__(self, model: str, request: dict[str, Any], device: str):
        self.transcriber = Transcriber.from_pretrained(model, device=device)
        self.request = Request(**{**request, "hotwords": tuple(request["hotwords"])})

    def __call__(self, batch: Rows) -> Rows:
        lines = [line for line in batch["failed"] if line]
        whole = [n for n, failed in enumerate(batch["failed"]) if not failed]
        for prompt, alike in by_prompt(whole, lambda n: str(batch["prompt"][n])).items():
            lines += self._lines(batch, alike, prompt)
        return {"line": np.array(lines, dtype=object)}

    def _lines(self, batch: Rows, alike: list[int], prompt: str) -> Iterator[str]:
        clips = [np.frombuffer(batch["samples"][n], np.float32).copy() for n in alike]
        made = answers(clips, self.transcriber, self.request, prompt, SAMPLE_RATE)
        for n, result in zip(alike, made, strict=True):
            line = line_of(str(batch["id"][n]), result)
            if line["outcome"] != "error":
                line["notes"] = json.loads(batch["notes"][n]) + line["notes"]  # decoding's first
            yield json.dumps(line)


def lines(
    work: Work, manifest: Path, clips: list[Clip], device: str, cluster: Cluster
) -> Iterator[Line]:
    """Yield one line for each of these clips of the manifest, as soon as it is ready."""
    places = {clip.id: number for number, clip in enumerate(work.clips)}
    with connected(cluster) as ray:
        rows = ray.data.from_items([{"number": places[clip.id]} for clip in clips])
        read = rows.map(
            Reader,
            fn_constructor_args=(str(manifest.resolve()),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cluster.workers),
        )
        written = read.map_batches(
            Writer,
            fn_constructor_args=(work.job["model"], work.job["request"], device),
            batch_size=AT_ONCE,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=cluster.workers),
            num_gpus=1 if device.startswith("cuda") else 0,
        )
        seen = set[str]()
        for row in written.iter_rows():
            line = json.loads(row["line"])
            if line["id"] not in seen:
                seen.add(line["id"])
                yield line
