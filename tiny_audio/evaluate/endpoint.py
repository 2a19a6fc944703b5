"""A server that speaks OpenAI's transcription API, as a system to evaluate.

The address is what the user typed; nothing else is ever contacted, and redirects are not followed.
A key is read from the environment (`OPENAI_API_KEY`), and is no part of any file.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import soundfile
from torch import Tensor

from tiny_audio.evaluate.systems import Answer, failure
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import ConfigError

NUM_AT_ONCE = 4  # requests that are under way together
TIMEOUT_S = 60.0
MOST_BYTES = 4 * 2**20  # of an answer that is read
CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class Endpoint:
    """A server asked by `POST BASE_URL/audio/transcriptions` with a WAV file; what goes wrong is an
    error answer.
    """

    def __init__(self, base_url: str, model: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in CONNECTIONS or not parts.hostname or parts.username:
            raise ConfigError(
                f"{base_url!r} is no address of a server. Expected http://HOST:PORT/v1 or "
                "https://HOST/v1; a key goes into the environment, as OPENAI_API_KEY."
            )
        self.base_url, self.model, self.timeout_s = base_url.rstrip("/"), model, timeout_s
        self.connect, self.host = CONNECTIONS[parts.scheme], parts.netloc
        self.path = f"{parts.path.rstrip('/')}/audio/transcriptions"

    def about(self) -> dict[str, Any]:
        return {
            "name": f"openai:{self.base_url}#{self.model}",
            "kind": "endpoint",
            "requests_at_once": NUM_AT_ONCE,
            "timeout_s": self.timeout_s,
        }

    def answer(self, clips: Sequence[Tensor], asked: Sequence[str]) -> list[Answer]:
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            return list(pool.map(self._one, clips, asked))

    def _one(self, clip: Tensor, question: str) -> Answer:
        fields = {"model": self.model, "response_format": "json", "temperature": "0"}
        fields |= {"prompt": question} if question else {}
        boundary = secrets.token_hex(16)
        try:
            status, body = self._post(form(fields, wav(clip), boundary), boundary)
        except (OSError, http.client.HTTPException) as error:
            return failure(error)
        if status != 200:
            return Answer(None, "error", f"HTTP {status}: {body[:200].decode(errors='replace')}")
        return read_answer(body)

    def _post(self, body: bytes, boundary: str) -> tuple[int, bytes]:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        connection = self.connect(self.host, timeout=self.timeout_s)
        try:
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(MOST_BYTES)
        finally:
            connection.close()


def wav(clip: Tensor) -> bytes:
    """Return the samples as a 16-bit WAV file."""
    file = io.BytesIO()
    soundfile.write(file, clip.clamp(-1, 1).numpy(), SAMPLE_RATE, "PCM_16", format="WAV")
    return file.getvalue()


def form(fields: dict[str, str], audio: bytes, boundary: str) -> bytes:
    """Return a multipart form: the fields, and the clip as `file`."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
    head += "Content-Type: audio/wav\r\n\r\n"
    return ("".join(parts) + head).encode() + audio + f"\r\n--{boundary}--\r\n".encode()


def read_answer(body: bytes) -> Answer:
    """Return the text of a JSON answer; another form is an error, never an empty text."""
    try:
        text = json.loads(body)["text"]
    except (ValueError, KeyError, TypeError):
        return Answer(None, "error", f"no JSON with a text: {body[:200].decode(errors='replace')}")
    if not isinstance(text, str):
        return Answer(None, "error", f"the text is {text!r}")
    return Answer(text.strip(), "ok" if text.strip() else "no_speech")
