"""The service under load, and under attack: `uv run python benchmarks/serving.py [load|hostile]`.

`load` starts `tiny-audio serve` with nano and asks it from many clients at once; each answer is
compared with the clip's own offline transcript. Some clients vanish in the middle. `hostile` sends
malformed requests. Both write `benchmarks/serving/result.json`.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from hostile.hostile_requests import form, hostile_requests, part, request, send_all  # noqa: E402
from serving import URL, Server  # noqa: E402

RESULT = ROOT / "benchmarks" / "serving" / "result.json"
CLIPS = ROOT / "tiny_audio" / "data" / "quickstart" / "held-out"
VANISHING = 4  # clients that hang up in the middle of an upload or a stream, again and again


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    vanished: int = 0


def offline_texts(num_clips: int) -> dict[Path, str]:
    """Clips whose texts differ from each other, so that a mixed-up answer is seen."""
    from tiny_audio.infer.transcriber import Transcriber

    nano, texts = Transcriber.from_pretrained("nano"), dict[Path, str]()
    for path in sorted(CLIPS.glob("*.opus")):
        text = nano.transcribe(path).text
        if text and text not in texts.values():
            texts[path] = text
        if len(texts) == num_clips:
            break
    return texts


async def client(http: httpx.AsyncClient, texts: dict[Path, str], seen: Seen, end: float) -> None:
    """Ask until the time is over; on 503 wait as long as the server says."""
    clips = {path.read_bytes(): text for path, text in texts.items()}
    while time.monotonic() < end:
        data, text = random.choice(list(clips.items()))
        started = time.monotonic()
        try:
            answer = await http.post(URL, files={"file": data})
        except httpx.HTTPError as error:
            seen.statuses[type(error).__name__] += 1
            continue
        seen.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            seen.seconds.append(time.monotonic() - started)
            if answer.json()["text"] != text:
                seen.wrong.append(f"{answer.json()['text']!r} in place of {text!r}")
        elif answer.status_code == 503:
            await asyncio.sleep(float(answer.headers["retry-after"]) * random.uniform(0.7, 1.3))


async def vanisher(port: int, data: bytes, seen: Seen, end: float) -> None:
    """Hang up in the middle of an upload, or while the answer is streamed."""
    whole = request(form(part("file", data, "a.opus"), part("stream", b"true")))
    while time.monotonic() < end:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(random.choice((whole, whole[: len(whole) // 2])))
        await asyncio.sleep(random.uniform(0.1, 1.0))
        writer.transport.abort()
        seen.vanished += 1


async def watch(server: Server, rows: list[dict[str, float]], end: float) -> None:
    """Resident memory of the server and all its processes, every two seconds."""
    started = time.monotonic()
    while time.monotonic() < end:
        sizes = {"server_mb": server.resident_bytes() / 2**20, "all_mb": family_mb(server)}
        rows.append({"s": round(time.monotonic() - started, 1), **sizes})
        await asyncio.sleep(2)


def family_mb(server: Server) -> float:
    """Proportional memory: pages that the decoding processes share count once."""
    total_kb = 0
    for pid in [server.process.pid, *children(server.process.pid)]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, listed) for each in [child, *children(child)]]


async def attack(server: Server, texts: dict[Path, str], num_clients: int, seconds: float) -> Any:
    """All clients at once."""
    seen, rows, end = Seen(), list[dict[str, float]](), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=server.url, timeout=150, limits=limits) as http:
        await asyncio.gather(
            watch(server, rows, end),
            *(client(http, texts, seen, end) for _ in range(num_clients)),
            *(vanisher(server.port, next(iter(texts)).read_bytes(), seen, end)
              for _ in range(VANISHING)),
        )  # fmt: skip
    return seen, rows


def load(asked: argparse.Namespace) -> dict[str, Any]:
    """The load test; raises where an acceptance line does not hold."""
    texts = offline_texts(asked.clips)
    server = Server("--max-requests", asked.max_requests).ready()
    started = time.monotonic()
    seen, rows = asyncio.run(attack(server, texts, asked.clients, asked.seconds))
    wall_s = time.monotonic() - started
    batches = server.metric("tiny_audio_batch_items_count")
    items = server.metric("tiny_audio_batch_items_sum")
    code, printed = server.end()
    late = [row for row in rows if row["s"] > asked.seconds / 4]
    return {
        "clients": asked.clients,
        "seconds": round(wall_s, 1),
        "clips": len(texts),
        "statuses": dict(seen.statuses),
        "errors_other_than_503": sum(
            n for status, n in seen.statuses.items() if status not in ("200", "503")
        ),
        "mixed_up_or_lost": seen.wrong,
        "vanished_clients": seen.vanished,
        "answers_per_s": round(len(seen.seconds) / wall_s, 2),
        "latency_s": percentiles(seen.seconds),
        "windows_per_batch": round(items / max(1, batches), 2),
        "memory_mb": {"quarter": late[0], "end": late[-1]} if late else {},
        "exit_code": code,
        "printed": printed[-2000:],
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {f"p{share}": round(cuts[share - 1], 3) for share in (50, 95, 99)}


def hostile(asked: argparse.Namespace) -> dict[str, Any]:
    """Malformed requests; the descriptions of those that were not answered as they must be."""
    cases = hostile_requests(asked.requests, asked.seed)
    server = Server().ready()
    started = time.monotonic()
    wrong = asyncio.run(send_all("127.0.0.1", server.port, cases))
    seconds = time.monotonic() - started
    alive = httpx.get(f"{server.url}/health", timeout=30).status_code == 200
    code, printed = server.end()
    return {
        "requests": len(cases),
        "seed": asked.seed,
        "seconds": round(seconds, 1),
        "wrong": wrong,
        "alive": alive,
        "exit_code": code,
        "printed": printed[-2000:],
    }


def hardware() -> dict[str, Any]:
    """Where and when."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average_at_start": os.getloadavg(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("load", "hostile"), default="load")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--max-requests", type=int, default=128)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    measured = hardware()
    found = {"load": load, "hostile": hostile}[asked.what](asked)
    before = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    result = {**before, asked.what: {"hardware": measured, **found}}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(found, indent=1, ensure_ascii=False))
    print(f"Written: {asked.out}")


if __name__ == "__main__":
    main()
