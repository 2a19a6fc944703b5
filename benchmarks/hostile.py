"""Attacks on the service and on checkpoints at full size: `uv run python benchmarks/hostile.py`.

Every attack is a line of JSON in `benchmarks/hostile/result.jsonl`, written when it ends: memory of
the service with its decoders before, at the peak and 5 s after; what was answered; and how long a
client with one short clip waited meanwhile. `--scale 0.25` makes attacks smaller, `--only NAME`
chooses one, `--checkpoints` loads the hostile checkpoints of `tests/hostile` instead.

Memory is what the processes have for themselves plus their share of what they have in common (PSS),
in MiB, read 20 times a second; the peak of the process that has the model is the kernel's own.
Seconds are worth something on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from serving import CHAT, URL, Server, audio_part, wav  # noqa: E402

FOLDER = ROOT / "benchmarks" / "hostile"
LIMIT_MB = 300  # of one request, beyond what is idle and the bodies themselves
Attack = Callable[["Target", float], Awaitable[None]]


class Target:
    """A service under attack: what it was sent, and what it answered."""

    def __init__(self, server: Server) -> None:
        self.server, self.answers = server, Counter[str]()
        self.requests = self.sent = 0
        self.messages: list[str] = []

    async def post(self, path: str, sent: int = 0, **body: Any) -> None:
        """Send one request; an answer that does not come counts by the name of its error."""
        self.sent += sent
        self.requests += 1
        try:
            async with httpx.AsyncClient(timeout=600) as http:
                answer = await http.post(f"{self.server.url}{path}", **body)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            return
        self.answers[str(answer.status_code)] += 1
        if answer.status_code >= 400 and len(self.messages) < 3:
            self.messages.append(answer.text[:300])


async def upload(target: Target, data: bytes, **fields: str) -> None:
    await target.post(URL, len(data), files={"file": data}, data=fields)


async def ask(target: Target, *contents: Any) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    body = json.dumps({"messages": messages}).encode()
    await target.post(CHAT, len(body), content=body, headers={"content-type": "application/json"})


# Attacks ------------------------------------------------------------------------------------------

CLIP = wav(0.1 * np.sin(np.arange(16_000) / 9))


async def long_prompts(target: Target, scale: float) -> None:
    """Sixteen uploads with an instruction far beyond the decoder's positions."""
    text = "word " * int(3_200 * scale)
    await asyncio.gather(*(upload(target, CLIP, instruction=text) for _ in range(16)))


async def many_clips(target: Target, scale: float) -> None:
    """One conversation with a thousand silent clips, as many as its form allows."""
    clip = audio_part(wav(np.zeros(1_600)))
    await ask(target, *[[clip] * 16] * int(64 * scale))


async def large_bodies(target: Target, scale: float) -> None:
    """Twelve bodies of 33 MB with sound in base64, at once."""
    sound = base64.b64encode(bytes(int(24e6 * scale))).decode()
    part = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    await asyncio.gather(*(ask(target, [part]) for _ in range(12)))


async def large_key(target: Target, scale: float) -> None:
    """A JSON object whose one key has 30 MB."""
    body = json.dumps({"x" * int(30e6 * scale): 1}).encode()
    await target.post(CHAT, len(body), content=body, headers={"content-type": "application/json"})


async def deep_json(target: Target, scale: float) -> None:
    """Brackets within brackets."""
    body = b'{"messages": ' + b"[" * int(1e6 * scale)
    await target.post(CHAT, len(body), content=body, headers={"content-type": "application/json"})


async def hotwords(target: Target, scale: float) -> None:
    """A megabyte of hotwords."""
    await upload(target, CLIP, hotwords=",".join(f"word{n}" for n in range(int(1e5 * scale))))


async def hours_in_kilobytes(target: Target, scale: float) -> None:
    """Ten hours of silence in a FLAC of some hundred kilobytes, eight times."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 16_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(int(600 * scale)):
            file.write(np.zeros(60 * 16_000, np.int16))
    await asyncio.gather(*(upload(target, out.getvalue()) for _ in range(8)))


async def packets_of_one_sample(target: Target, scale: float) -> None:
    """A million packets in Matroska, each of one sample."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as sink:
        track = sink.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(int(200_000 * scale)):
            packet = av.Packet(b"\1\1")
            packet.stream, packet.pts, packet.dts = track, number, number
            packet.time_base, packet.duration = Fraction(1, 16_000), 1
            sink.mux(packet)
    await upload(target, out.getvalue())


async def long_clip(target: Target, scale: float) -> None:
    """Four uploads of 13 minutes of noise: nearly 25 MB each, which is allowed."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(int(780 * 16_000 * scale))
    await asyncio.gather(*(upload(target, wav(noise)) for _ in range(4)))


async def silent_readers(target: Target, scale: float) -> None:
    """Twenty clients that ask for a long answer and read none of it."""
    noise = wav(0.1 * np.random.default_rng(0).standard_normal(int(120 * 16_000 * scale)))

    async def one() -> None:
        with suppress(httpx.HTTPError, TimeoutError):
            async with (
                asyncio.timeout(60),
                httpx.AsyncClient(timeout=60) as http,
                http.stream(
                    "POST",
                    f"{target.server.url}{URL}",
                    files={"file": noise},
                    data={"stream": "true", "response_format": "all"},
                ) as answer,
            ):
                target.answers[str(answer.status_code)] += 1
                await asyncio.sleep(30)

    target.sent, target.requests = 20 * len(noise), 20
    await asyncio.gather(*(one() for _ in range(20)))


ATTACKS: tuple[Attack, ...] = (
    long_prompts,
    many_clips,
    large_bodies,
    large_key,
    deep_json,
    hotwords,
    hours_in_kilobytes,
    packets_of_one_sample,
    long_clip,
    silent_readers,
)


# Measuring ----------------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its descendants in MiB."""
    total = 0
    for one in family(pid):
        with suppress(OSError):
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(text.split("Pss:")[1].split()[0])
    return round(total / 1024, 1)


def status_mb(pid: int, name: str) -> float:
    """Return what the kernel says of one process: VmRSS is its memory, VmHWM its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[dict[str, Any]]:
    """Measure the peak of memory, and how long a client with one short clip waits."""
    pid = server.process.pid
    found: dict[str, Any] = {"peak_mb": memory_mb(pid), "waits_s": []}
    before_mb, resident_mb, ended = found["peak_mb"], status_mb(pid, "VmRSS"), threading.Event()
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel's peak begins anew

    def memory() -> None:
        while not ended.wait(0.05):
            found["peak_mb"] = max(found["peak_mb"], memory_mb(pid))

    async def bystander() -> None:
        async with httpx.AsyncClient(timeout=600) as http:
            while True:
                started = time.monotonic()
                answer = await http.post(f"{server.url}{URL}", files={"file": CLIP})
                if answer.status_code == 200:
                    found["waits_s"].append(round(time.monotonic() - started, 2))
                await asyncio.sleep(0.5)

    watcher, task = threading.Thread(target=memory), asyncio.create_task(bystander())
    watcher.start()
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ended.set()
        watcher.join()
        grown_mb = status_mb(pid, "VmHWM") - resident_mb
        found["peak_mb"] = max(found["peak_mb"], round(before_mb + grown_mb, 1))


async def measure(server: Server, attack: Attack, scale: float) -> dict[str, Any]:
    """Run one attack and say what it cost."""
    target, before = Target(server), memory_mb(server.process.pid)
    started = time.monotonic()
    async with watched(server) as found:
        await attack(target, scale)
    took_s = time.monotonic() - started
    await asyncio.sleep(5)
    bodies_mb = target.sent / 2**20
    beyond = found["peak_mb"] - before - bodies_mb
    return {
        "attack": attack.__name__,
        "scale": scale,
        "before_mb": before,
        "peak_mb": found["peak_mb"],
        "after_mb": memory_mb(server.process.pid),
        "bodies_mb": round(bodies_mb, 1),
        "beyond_bodies_mb": round(beyond, 1),
        "requests": target.requests,
        "within_limit": beyond <= LIMIT_MB * target.requests,
        "seconds": round(took_s, 1),
        "answers": dict(target.answers),
        "bystander_waits_s": sorted(found["waits_s"])[-3:],
        "messages": target.messages,
    }


async def attack_service(scale: float, only: str) -> None:
    """Start a service and attack it, one way after another."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server("--model", "nano", folder=folder).ready()
        try:
            await Target(server).post(URL, files={"file": CLIP})  # what loads once, has loaded
            for attack in ATTACKS:
                if only in ("", attack.__name__):
                    keep(await measure(server, attack, scale), "result.jsonl")
                    assert server.process.poll() is None, f"{attack.__name__} ended the service"
        finally:
            server.end()


def attack_checkpoints() -> None:
    """Load every hostile checkpoint, also the large ones, in a process of its own."""
    worker = ROOT / "tests" / "hostile" / "checkpoint_worker.py"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(worker), folder, "full"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
            assert process.stdout is not None
            for line in process.stdout:
                keep(json.loads(line), "checkpoints.jsonl")


def keep(row: dict[str, Any], name: str) -> None:
    """Print a row, and append it to the file of results."""
    FOLDER.mkdir(exist_ok=True)
    line = json.dumps(row)
    print(line, flush=True)
    with (FOLDER / name).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", choices=["", *(one.__name__ for one in ATTACKS)])
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    name = "checkpoints.jsonl" if arguments.checkpoints else "result.jsonl"
    if not arguments.only:
        (FOLDER / name).unlink(missing_ok=True)
    if arguments.checkpoints:
        attack_checkpoints()
    else:
        asyncio.run(attack_service(arguments.scale, arguments.only))


if __name__ == "__main__":
    main()
