"""The service as replicas on Ray Serve, each with a model of its own.

    serve run tiny_audio.scale.rayserve:app model=tiny replicas=2

Ray's proxy takes the requests and gives each to a replica that has room; the routes, the guard and
the limits are those of `tiny-audio serve`, and hold for every replica. Deployed again, replicas are
exchanged one after the other: an old one answers what it has accepted, then it ends.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from tiny_audio import DEFAULT_MODEL
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.errors import needing
from tiny_audio.serve.address import check_origins, read_token
from tiny_audio.serve.app import create_app
from tiny_audio.serve.limits import Limits
from tiny_audio.serve.server import own_folder
from tiny_audio.serve.service import Service


class Options(BaseModel):
    """The options that `serve run` takes as NAME=VALUE, and a deployment's file as `args`.

    `replicas` is their number; with a larger `most` Ray adds replicas while requests wait. Every
    machine of the cluster reads `model` and `token_file` under the same path.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = DEFAULT_MODEL
    names: list[str] = Field(default_factory=list)
    language: str = "en"
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    token_file: Path | None = None
    origins: list[str] = Field(default_factory=list)
    replicas: int = Field(default=1, ge=1)
    most: int | None = Field(default=None, ge=1)
    limits: Limits = Limits()


class Replica:
    """One model with its thread, its decoding processes and the application before them."""

    def __init__(self, options: Options):
        self.held = ExitStack()
        self.token, self.origins = read_token(None, options.token_file), options.origins
        transcriber = Transcriber.from_pretrained(
            options.model, device=options.device, dtype=getattr(torch, options.dtype)
        )
        folder = self.held.enter_context(own_folder())
        names = options.names or [options.model]
        self.service = Service(transcriber, names, options.language, options.limits, folder)
        self.held.callback(self.service.close)

    def __serve_build_asgi_app__(self) -> FastAPI:  # the name is Ray's
        return create_app(self.service, self.token, self.origins)

    def check_health(self) -> None:
        """Raise an error if Ray should replace this replica."""
        if not self.service.batcher.alive:
            raise RuntimeError("The model's thread has ended.")

    def __del__(self) -> None:  # Ray calls this once the replica has answered everything
        self.held.close()


def app(args: dict[str, Any]) -> Any:
    """Return the application that Ray Serve runs; `args` are those of `Options`, as Ray reads them.

    Raises pydantic's `ValidationError` for an unknown option, and `ConfigError` for a wrong origin.
    """
    with needing("tiny_audio.scale.rayserve", "ray"):
        from ray import serve

    options = Options.model_validate(args)
    check_origins(options.origins)
    limits = options.limits
    deployment = serve.deployment(serve.ingress()(Replica))
    return deployment.options(
        name="tiny-audio",
        autoscaling_config={
            "min_replicas": options.replicas,
            "max_replicas": options.most or options.replicas,
            "target_ongoing_requests": limits.batch_items,  # more would wait for the next batch
        },
        max_ongoing_requests=limits.max_requests,
        graceful_shutdown_timeout_s=limits.request_timeout_s,
        ray_actor_options={"num_gpus": int(options.device.startswith("cuda"))},
    ).bind(options)
