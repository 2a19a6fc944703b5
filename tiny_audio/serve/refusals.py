"""Every answer that is not 200, in the shape of OpenAI's errors."""

import errno
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from tiny_audio.model.errors import AudioError, TinyAudioError

CLIENT_GONE = 499  # nobody reads it; it is counted


class Refusal(TinyAudioError, HTTPException):  # noqa: N818 — it is an answer
    """A request that is not answered: the status, why, and what to do instead.

    An `HTTPException`, so that frameworks hand it on where they would hide any other exception.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, retry_after_s: int = 0
    ) -> None:
        headers = {"retry-after": str(retry_after_s)} if retry_after_s else None
        HTTPException.__init__(self, status, message, headers)
        self.param = param

    def response(self) -> Response:
        """Return the answer that the client gets."""
        return error_response(self.status_code, self.detail, self.param, self.headers)


def no_room(what: str) -> Refusal:
    """Return the answer where the server lacks disk, memory or open files."""
    message = f"The server has no room at the moment: {what}"
    return Refusal(503, f"{message}. Try again in 30 s.", retry_after_s=30)


def refuse_query(request: Request) -> None:
    """Refuse what stands behind a `?` in the address, where nothing would read it."""
    if names := list(dict.fromkeys(request.query_params)):
        shown = short(", ".join(map(repr, names)), MAX_ECHO)
        message = f"{shown} in the address is not read here"
        raise Refusal(400, f"{message}. Send it in the body.", param=names[0])


def error_response(
    status: int,
    message: str,
    param: str | None = None,
    headers: Any = None,
    code: str | None = None,
) -> JSONResponse:
    """Return `{"error": {message, type, param, code}}`."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    shown = None if param is None else short(param, MAX_ECHO)
    error = {
        "message": short(message, MAX_MESSAGE),
        "type": kind,
        "param": shown,
        "code": code or CODES.get(status),
    }
    return JSONResponse({"error": error}, status, headers)


def short(text: str, most: int) -> str:
    """Return a text without its middle where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def answers(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the kinds of content that a route answers with besides JSON, for /openapi.json."""
    return {200: {"content": {kind: {"schema": {}} for kind in kinds}}}


CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    408: "request_timeout",
    413: "request_too_large",
    503: "overloaded",
    504: "timeout",
}

MAX_ECHO = 200  # characters of what somebody sent
MAX_MESSAGE = 2_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
NO_FILE = "a part with the file's bytes and a file name is needed, as of curl -F file=@speech.wav"
REASONS = {"temperature": "Decoding is greedy.", "n": "Decoding is greedy: one answer."}


def add_handlers(app: FastAPI) -> None:
    """Give every kind of failure its answer."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(TinyAudioError, _unusable)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OSError, _our_trouble)
    app.add_exception_handler(Exception, _our_fault)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _unusable(_: Request, error: Exception) -> Response:
    if isinstance(error, AudioError):
        return error_response(400, str(error), "file", code=error.reason.name.lower())
    return error_response(400, str(error))


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):  # a form that could not be written to the disk
        return await _our_trouble(request, error.__cause__)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return error_response(error.status_code, message, None, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where a value may be one of several types, the deepest problem is the one that was meant.
    # Of a value that may be a text or something else, what is said of the text tells least.
    worst = max(error.errors(), key=lambda one: (len(one["loc"]), one["type"] != "string_type"))
    param = short(".".join(str(part) for part in worst["loc"][1:]), MAX_ECHO) or None
    form = param == "file" and request.url.path != "/v1/chat/completions"
    problem = (
        NO_FILE if form else short(worst["msg"], MAX_ECHO)
    )  # of an unknown kind of part it holds the kind
    reason = f"{param or 'body'}: {problem}. {REASONS.get(param or '', '')}".rstrip()
    return error_response(400, reason, param)


async def _our_trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno in NO_ROOM:
        return no_room(error.strerror or "").response()
    return await _our_fault(request, error)


async def _our_fault(_: Request, error: Exception) -> Response:
    """Answer for an error of ours, and give the log the traceback."""
    message = f"The server failed ({type(error).__name__}). Its log says more."
    return error_response(500, message)
