"""Writing a trace as one HTML page that needs nothing else: no network, no other file.

Matrices of the page are bytes: value = low + byte × step, with one pair per row, so that a large
row does not take the resolution of the others. A value under the pointer is exact within half a
step, and the page says so. Everything else is float32.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError
from tiny_audio.scope.trace.path import Trace
from tiny_audio.scope.trace.timeline import Track
from tiny_audio.scope.trace.writing import Answer, Step

ASSETS = Path(__file__).with_name("pages")
SCRIPTS = ("clock.js", "draw.js", "panels.js", "words.js", "page.js")
# Rows of a heat map: of 256 to 8,192 dimensions those that are most active.
MOST_ROWS = 64
NUM_BINS = 48

Json = dict[str, Any]


def render(trace: Trace, versus: Trace | None = None) -> str:
    """Return the page of a trace, or of two models with the same audio."""
    traces = [trace] if versus is None else [trace, versus]
    if versus is not None and not torch.equal(trace.samples_N, versus.samples_N):
        raise ConfigError(
            f"Two traces go on one page if they are of the same samples; these are of "
            f"{trace.source} and {versus.source}. Trace one file with both models."
        )
    data = {
        "source": trace.source,
        "duration_s": trace.duration_s,
        "sampling_rate": SAMPLE_RATE,
        "wav": base64.b64encode(_wav(trace.samples_N)).decode(),
        "traces": [_trace(one, _rows_of(traces), _bins(traces)) for one in traces],
        "same": _same(traces),
    }
    # No text in the data may end the script element.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    page = (ASSETS / "trace.html").read_text()
    parts = {"STYLE": style(), "DATA": text, "SCRIPT": script()}
    # In one pass, because a file's name may contain a placeholder.
    return re.sub("@@(STYLE|DATA|SCRIPT)@@", lambda mark: parts[mark[1]], page)


def script() -> str:
    """Return the page's script, which is the same for every trace."""
    return "\n".join((ASSETS / name).read_text() for name in SCRIPTS)


def style() -> str:
    """Return the page's style, which is the same for every trace."""
    return (ASSETS / "trace.css").read_text()


def _wav(samples_N: Tensor) -> bytes:
    """Return 16-bit PCM, to be played and drawn as the waveform, to 1/32768."""
    file = io.BytesIO()
    soundfile.write(file, samples_N.numpy(), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _trace(trace: Trace, rows: dict[str, Tensor], edges: Tensor) -> Json:
    """Return one model's share of the page."""
    mel = trace.log_mel.values_SC
    return {
        "text": trace.text,
        "model": vars(trace.model),
        "log_mel": {
            **_track(trace.log_mel, torch.arange(mel.shape[1])),
            "shape": [1, *mel.T.shape],  # features_BFM
        },
        "frames": _track(trace.frames, rows[_key(trace.frames)]),
        "stages": [_track(track, rows[_key(track)]) for track in trace.stages],
        "audio": _track(trace.audio, rows[_key(trace.audio)]),
        "windows": [[span.start / SAMPLE_RATE, span.end / SAMPLE_RATE] for span in trace.spans],
        "nearest": {
            "tokens": trace.nearest.tokens,
            "cosines": _floats(trace.nearest.cosines_PK),
        },
        "answers": [_answer(one) for one in trace.answers],
        "scale": {
            "edges": _floats(edges),
            "audio": _share(trace.audio_norms, edges),
            "text": _share(trace.text_norms_V, edges),
            "norms": _floats(trace.audio_norms),
            "audio_median": trace.audio_norms.median().item(),
            "text_median": trace.text_norms_V.median().item(),
        },
    }


def _track(track: Track, rows: Tensor) -> Json:
    steps, width = track.values_SC.shape
    return {
        "name": track.name,
        "symbol": track.symbol,
        "shape": [1, steps, width],
        "rms": track.rms,
        "rows": rows.tolist(),
        "start_s": _floats(track.start_s),
        "end_s": _floats(track.end_s),
        "padded_to_s": track.padded_to_s,
        **quantised(track.values_SC[:, rows].T),
    }


def quantised(values_RS: Tensor) -> Json:
    """Return rows as bytes, each with its lowest value and its step."""
    low_R = values_RS.amin(-1)
    step_R = (values_RS.amax(-1) - low_R).clamp(min=1e-12) / 255
    steps = (values_RS - low_R[:, None]) / step_R[:, None]
    data = steps.round().clamp(0, 255).to(torch.uint8)
    return {
        "bytes": base64.b64encode(data.contiguous().numpy().tobytes()).decode(),
        "low": _floats(low_R),
        "step": _floats(step_R),
    }


def _answer(answer: Answer) -> Json:
    attention = answer.attention_on_audio
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "ids": answer.ids,
        "tokens": answer.tokens,
        "labels": answer.labels,
        "slots": answer.slots,
        "first_position": answer.first_position,
        "steps": [_step(step) for step in answer.steps],
        "attention": {"shape": list(attention.shape), **quantised(attention.flatten(0, 1))},
        "share": _floats(answer.audio_share),
    }


def _step(step: Step) -> Json:
    return {
        "id": step.chosen.token_id,
        "token": step.chosen.token,
        "probability": step.chosen.probability,
        "entropy_bits": step.entropy_bits,
        "alternatives": [[one.token, one.probability] for one in step.alternatives],
    }


def _key(track: Track) -> str:
    """Return a key; tracks of two models with the same key show the same dimensions."""
    return f"{track.name} {track.values_SC.shape[1]}"


def _rows_of(traces: Sequence[Trace]) -> dict[str, Tensor]:
    """Return the most active dimensions of every track, in order; the first trace decides."""
    rows: dict[str, Tensor] = {}
    for trace in traces:
        for track in (trace.frames, *trace.stages, trace.audio):
            activation_C = track.values_SC.abs().mean(0)
            best = activation_C.topk(min(MOST_ROWS, len(activation_C))).indices
            rows.setdefault(_key(track), best)
    return rows


def _same(traces: Sequence[Trace]) -> Json:
    """Tell which panels two models have in common, value by value."""
    if len(traces) == 1:
        return {}
    one, two = traces
    pairs = {"log_mel": (one.log_mel, two.log_mel), "frames": (one.frames, two.frames)}
    return {
        name: torch.equal(a.values_SC, b.values_SC) and torch.equal(a.start_s, b.start_s)
        for name, (a, b) in pairs.items()
    }


def _bins(traces: Sequence[Trace]) -> Tensor:
    """Return edges for lengths of embeddings, evenly in their logarithm."""
    norms = torch.cat([norms for one in traces for norms in (one.audio_norms, one.text_norms_V)])
    norms = norms[norms > 0]
    low, high = (norms.min() * 0.98).log10().item(), (norms.max() * 1.02).log10().item()
    return torch.logspace(low, high, NUM_BINS + 1)


def _share(norms: Tensor, edges: Tensor) -> list[float]:
    """Return the share of embeddings in every bin."""
    counts = np.histogram(norms.numpy(), edges.numpy())[0]
    return [round(float(count) / len(norms), 6) for count in counts]


def _floats(values: Tensor) -> str:
    return base64.b64encode(values.float().contiguous().numpy().tobytes()).decode()
