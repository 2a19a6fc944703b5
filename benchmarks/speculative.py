"""Speculative decoding: `uv run python benchmarks/speculative.py --manifest CLIPS.jsonl`, offline.

The token head's best path is a free draft of the text. The language model reads the whole draft in
one pass and keeps what greedy decoding would write; behind the first other token it reads the rest
of the draft again. Both ways step with transformers' own forward and a cache; the product's greedy
loop (`steps.py`) is timed beside them. Texts must be equal; where they are not, that is counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tiny_audio.infer.longform import Window
from tiny_audio.infer.token_head import best_path, load_token_head
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, load_audio
from tiny_audio.model.generation import token_limit, write


class Greedy:
    """Greedy decoding of one prompt with the language model's own forward, with or without a draft.

    `passes` counts calls of the model, `accepted` draft tokens that it would have written itself.
    """

    def __init__(self, transcriber: Transcriber):
        self.model = transcriber.model
        self.stops = set(transcriber.processor.stop_ids())
        self.passes = self.accepted = 0

    def write(self, prompt_1LD: Tensor, draft: list[int], limit: int) -> list[int]:
        """Return the tokens that greedy decoding writes, at most `limit`."""
        whole, cache, written = draft, DynamicCache(), list[int]()
        inputs = torch.cat([prompt_1LD, self.embed(draft)], 1)
        while True:
            chosen = self.next_tokens(inputs, len(draft) + 1, cache)
            right = 0
            while right < len(draft) and draft[right] == chosen[right]:
                right += 1
            self.accepted += right
            for token in chosen[: right + 1]:
                if token in self.stops or len(written) == limit:
                    return written
                written.append(token)
            if right < len(draft):
                cache.crop(right - len(draft))  # forget what was refused
            draft = rest(whole, written)
            inputs = self.embed([chosen[right], *draft])

    @torch.inference_mode()
    def next_tokens(self, inputs_1ND: Tensor, ends: int, cache: DynamicCache) -> list[int]:
        """Return the likeliest next token behind each of the last `ends` positions."""
        self.passes += 1
        language_model: Any = self.model.language_model
        out = language_model(
            inputs_embeds=inputs_1ND, past_key_values=cache, use_cache=True, logits_to_keep=ends
        )
        return out.logits[0].argmax(-1).tolist()

    def embed(self, tokens: list[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor([tokens], dtype=torch.long))


def rest(draft: list[int], written: list[int]) -> list[int]:
    """Return the draft behind what is written: behind its beginning that is most like the text.

    Likeness is the edit distance; where two beginnings are alike, the one of the text's own length
    is taken, for a token that was replaced is likelier than one that is missing.
    """
    costs = list(range(len(draft) + 1))
    for token in written:
        above, costs = costs, [costs[0] + 1]
        for place, proposed in enumerate(draft):
            costs.append(
                min(above[place] + (token != proposed), above[place + 1] + 1, costs[place] + 1)
            )
    best = min(range(len(costs)), key=lambda n: (costs[n], abs(n - len(written))))
    return draft[best:]


def measure(transcriber: Transcriber, head: Any, samples_N: Tensor) -> dict[str, Any]:
    """Write one clip in three ways; return the seconds, passes and tokens of each."""
    window, stops = Window(0, samples_N), transcriber.processor.stop_ids()
    embeds, mask = transcriber.encode([window])
    limit = token_limit(len(samples_N) / SAMPLE_RATE)
    started = time.perf_counter()
    draft = best_path(head, transcriber.model, samples_N)
    seconds = {"draft": time.perf_counter() - started}
    found, passes, plain, drafted = {}, {}, Greedy(transcriber), Greedy(transcriber)
    for name, way, tokens in (("plain", plain, []), ("drafted", drafted, draft)):
        started = time.perf_counter()
        found[name] = way.write(embeds, tokens, limit)
        seconds[name] = time.perf_counter() - started
        passes[name] = way.passes
    started = time.perf_counter()
    (ours,) = write(transcriber.model, embeds, mask, stops, [limit])
    seconds["product"] = time.perf_counter() - started
    return {
        "seconds": seconds,
        "passes": passes,
        "drafted": len(draft),
        "accepted": drafted.accepted,
        "written": len(found["plain"]),
        "equal": found["plain"] == found["drafted"] == ours.tokens,
    }


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all clips say together; speed-ups are medians over clips."""
    total: Counter[str] = Counter()
    for one in measured:
        total.update({n: one[n] for n in ("drafted", "accepted", "written", "equal")})
        total.update({f"{name}_passes": n for name, n in one["passes"].items()})
    times = [one["seconds"] for one in measured]
    return {
        "clips": len(measured),
        "equal_texts": total["equal"],
        "tokens": total["written"],
        "accepted_of_draft": total["accepted"] / max(total["drafted"], 1),
        "passes_a_clip": {
            name: total[f"{name}_passes"] / len(measured) for name in ("plain", "drafted")
        },
        "speed_up": {
            "same steps": median(t["plain"] / t["drafted"] for t in times),
            "beside the product's loop": median(t["product"] / t["drafted"] for t in times),
            "with the time of the draft": median(
                t["product"] / (t["drafted"] + t["draft"]) for t in times
            ),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="clips to write")
    parser.add_argument("--clips", type=int, default=60, help="the first so many")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")
    asked = parser.parse_args()
    transcriber = Transcriber.from_pretrained(asked.model)
    head = load_token_head(transcriber.model)
    if head is None:
        parser.error(f"{asked.model} has no token head, so there is no draft.")
    rows = map(json.loads, asked.manifest.read_text().splitlines()[: asked.clips])
    measured = []
    for row in rows:
        samples_N = load_audio(asked.manifest.parent / row["audio"]).samples
        measured.append(measure(transcriber, head, samples_N))
        print(row["audio"], json.dumps(measured[-1]), flush=True)
    result = summary(measured)
    print(json.dumps(result, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
