"""The page of `tiny-audio demo`: one file that loads nothing from elsewhere, on the service's API.

The page holds no secret and no markup that anybody else wrote; what it shows, its script puts in as
text. Limits hold in the service, whatever a browser sends.
"""

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import FileResponse, Response

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.presets import SHIPPED
from tiny_audio.scope.trace import trace
from tiny_audio.scope.trace.page import render, script, style

from .refusals import Refusal
from .service import Service, unless_gone
from .uploads import DecodedUpload

router = APIRouter(include_in_schema=False)
PAGES = Path(__file__).with_name("pages")
PAGE = (PAGES / "page.html").read_bytes()
SAMPLES = {path.name: path for path in sorted(PAGES.glob("*.flac"))}
MAX_TRACE_S = 60.0  # a page of 4 MB; five minutes would be 20


def _hashes(tag: str, of_trace: str) -> str:
    """Return how a policy names the page's only script or style, and that of a trace.

    A browser that opens a trace from this page gives it this page's policy.
    """
    (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), PAGE, re.S)
    hashed = (hashlib.sha256(text).digest() for text in (inside, f"\n{of_trace}\n".encode()))
    return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in hashed)


HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hashes('script', script())}; "
        f"style-src {_hashes('style', style())}; connect-src 'self'; media-src blob:; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
# A trace runs its own scripts, and is nothing to the server that made it.
TRACE_HEADERS = {**HEADERS, "content-security-policy": "sandbox allow-scripts"}


@router.get("/")
async def page() -> Response:
    """Return the page itself, which asks for the token where there is one."""
    return Response(PAGE, media_type="text/html", headers=HEADERS)


@router.get("/page/about")
async def about(request: Request) -> dict[str, Any]:
    """Return what the page says about the model, and which of its fields it shows."""
    service: Service = request.app.state.service
    model = service.transcriber.model
    config = model.config
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return {
        "model": service.name,
        "about": f"{config.encoder.family} encoder → {config.projector.kind} projector → "
        f"{config.text_config.model_type} decoder · {millions:,.1f} M parameters",
        "untimed": await service.untimed(),
        # Ours have learnt one instruction; another makes them worse, so it is not offered.
        "takes_instructions": service.name not in SHIPPED,
        "tasks": config.tasks or {},
        "instruction": config.prompt.instruction,
        "max_audio_s": service.limits.max_audio_s,
        "samples": list(SAMPLES),
    }


@router.get("/page/samples/{name}")
async def sample(name: str) -> Response:
    """Return a clip to try the model with."""
    if name not in SAMPLES:
        raise Refusal(404, f"There is no sample {name[:100]!r}; there are {', '.join(SAMPLES)}.")
    return FileResponse(SAMPLES[name], media_type="audio/flac")


@router.post("/page/trace")
async def explain(request: Request, file: Annotated[UploadFile, File()]) -> Response:
    """Return the way of a clip through the model, as a page of its own."""
    service: Service = request.app.state.service
    work = _traced(service, file)
    made = await unless_gone(request, work, service.limits.request_timeout_s)
    return Response(made, media_type="text/html", headers=TRACE_HEADERS)


async def _traced(service: Service, file: UploadFile) -> str:
    upload = await service.decode(file.file)
    if upload.duration_s > MAX_TRACE_S:
        problem = f"A clip of {upload.duration_s:.1f} s; the limit is {MAX_TRACE_S:g} s"
        raise Refusal(400, f"{problem}. Cut it, or use the command tiny-audio trace.", param="file")
    with service.holding(upload):
        return await service.on_model(_page_of, service, upload, (file.filename or "clip")[:200])


def _page_of(service: Service, upload: DecodedUpload, name: str) -> str:
    samples_N, writer = torch.from_numpy(upload.samples_N.copy()), service.transcriber
    traced = trace(
        writer.model, samples_N, name=service.name, transcriber=writer, sampling_rate=SAMPLE_RATE
    )
    return render(replace(traced, source=name))
