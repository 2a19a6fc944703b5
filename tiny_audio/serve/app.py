"""The application: its routes, the gate before them, and their description in /openapi.json."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response

from tiny_audio import __version__

from . import chat, live, transcriptions
from .guard import Guard
from .refusals import Refusal, add_handlers, answers
from .service import Service

router = APIRouter()
WHY = {
    400: "What is wrong with the request",
    403: "The request comes from another site, or by a name that is not this machine's",
    401: "The token is missing or wrong",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    431: "The headers are too large",
    503: "All slots are taken; `Retry-After` says when to try again",
    504: "It took too long",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type"]}},
}
REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"description": why, "content": {"application/json": {"schema": ERROR}}}
    for status, why in WHY.items()
}


def create_app(
    service: Service,
    token: str | None = None,
    origins: Sequence[str] = (),
    page: bool = False,
) -> FastAPI:
    """Make the application around a service, which its maker closes. Pages of `origins` may use it.

    There is no page of documentation: FastAPI's would load scripts from elsewhere.
    """

    app = FastAPI(
        title="Tiny Audio",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses=REFUSED,
    )
    app.state.service = service
    add_handlers(app)
    for part in (transcriptions.router, chat.router, live.router, router):
        app.include_router(part)
    if page:
        from .demo import router as of_the_page  # with what a trace needs: not for a mere service

        app.include_router(of_the_page)
    app.add_middleware(Guard, service.limits, token, service.metrics, origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Tell whether it runs, and the model's thread with it."""
    if not request.app.state.service.batcher.alive:
        cure = "The next request starts another; if this stays so, start the server again"
        raise Refusal(503, f"The model's thread has ended. {cure}.", retry_after_s=1)
    return {"status": "ok"}


@router.get("/metrics", responses=answers("text/plain"))
async def metrics(request: Request) -> Response:
    """Return counters in Prometheus' text format."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """Return the one model that is served, by each of its names."""
    service: Service = request.app.state.service
    return {"object": "list", "data": [described(name) for name in service.names]}


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """Return the model by its name."""
    service: Service = request.app.state.service
    service.check_model(name)
    return described(name)


def described(name: str) -> dict[str, Any]:
    """Describe a model in OpenAI's words."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "tiny-audio"}
