"""WebSocket /v1/audio/stream: PCM in, words out while somebody speaks.

The client sends 16-bit little-endian mono samples at `?sample_rate=` in binary messages, and
`{"type": "end"}` when it has no more. It gets `{"type": "partial" | "final", "text", "start_s",
"end_s"}`: partial ones replace each other, final ones stay; then `{"type": "done", "text"}`, with
`notes` where something was left out or may not be whole.
"""

import asyncio
import json
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from tiny_audio.infer.results import Segment, ending_notes
from tiny_audio.infer.streaming import Event, State, Streamer
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import TinyAudioError

from .refusals import Refusal
from .service import Service

router = APIRouter()
POLICY, AGAIN = 1008, 1013  # why a socket is closed
HALF = "The last byte is half a sample, and was left out."
BUFFER_S = 10.0  # received and not yet transcribed; then the client has to wait


@router.websocket("/v1/audio/stream")
async def stream(
    socket: WebSocket, sample_rate: Annotated[int, Query(ge=8_000, le=48_000)] = SAMPLE_RATE
) -> None:
    """One session: it ends with "end", with silence on the line, or after `max_live_s`."""
    service: Service = socket.app.state.service
    limits = service.limits
    await socket.accept()
    with suppress(WebSocketDisconnect, RuntimeError):  # starlette: sending after a close
        if odd := [name for name in socket.query_params if name != "sample_rate"]:
            message = f"There is no option {odd[0][:100]!r}. Known: sample_rate."
            await refuse(socket, message, POLICY)
            return
        if service.num_live >= limits.max_live:
            message = f"{service.num_live} people are speaking already. Try again later."
            await refuse(socket, message, AGAIN)
            return
        service.num_live += 1
        try:
            with service.metrics.live.track_inprogress():
                async with asyncio.timeout(limits.max_live_s + limits.live_idle_s):
                    await _Session(socket, service, sample_rate).run()
        except TimeoutError:
            message = f"A session lasts at most {limits.max_live_s:g} s. Begin another."
            await refuse(socket, message, POLICY)
        except TinyAudioError as error:
            await refuse(socket, str(error), POLICY)
        finally:
            service.num_live -= 1


async def refuse(socket: WebSocket, message: str, code: int) -> None:
    """Say why, then close."""
    await socket.send_json({"type": "error", "error": {"message": message}})
    await socket.close(code)


class _Session:
    """One connection. Sound is received while earlier sound is transcribed."""

    def __init__(self, socket: WebSocket, service: Service, rate: int) -> None:
        self.socket, self.service, self.rate = socket, service, rate
        self.streamer = Streamer(service.transcriber, sampling_rate=rate)
        self.buffer, self.ended = bytearray(), False
        self.arrived, self.room = asyncio.Event(), asyncio.Event()
        self.received_s = 0.0
        self.deadline: float | None = None  # until which something must come
        self.finals: list[Segment] = []

    async def run(self) -> None:
        """Transcribe to the end; the first of both tasks to fail ends the other."""
        receiving = asyncio.create_task(self._receive())
        try:
            await self._transcribe(receiving)
        finally:
            receiving.cancel()
            with suppress(asyncio.CancelledError, TinyAudioError, WebSocketDisconnect):
                await receiving
        text = " ".join(segment.text for segment in self.finals if segment.text)
        half = [HALF] if self.buffer else []
        notes = {"notes": found} if (found := [*half, *ending_notes(self.finals)]) else {}
        await self.socket.send_json({"type": "done", "text": text, **notes})
        await self.socket.close()

    async def _receive(self) -> None:
        try:
            while not self.ended:
                await self._message()
                self.arrived.set()
                while len(self.buffer) > BUFFER_S * 2 * self.rate:
                    self.room.clear()
                    await self.room.wait()
        finally:
            self.ended = True
            self.arrived.set()

    async def _message(self) -> None:
        limits = self.service.limits
        if self.deadline is None:
            self.deadline = asyncio.get_running_loop().time() + limits.live_idle_s
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.socket.receive()
        except TimeoutError as error:
            raise Refusal(408, f"Nothing came for {limits.live_idle_s:g} s.") from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if (data := message.get("bytes")) is not None:
            if data:  # an empty message is no sign of life
                self.deadline = None
            self.buffer += data
            self.received_s += len(data) / 2 / self.rate
        elif is_end(message["text"]):
            self.ended = True
        else:
            problem = 'A text message must be {"type": "end"}; sound comes in binary messages'
            raise Refusal(400, f"{problem}.")
        if self.received_s > limits.max_live_s:
            raise Refusal(413, f"A session takes at most {limits.max_live_s:g} s. Begin another.")

    async def _transcribe(self, receiving: "asyncio.Task[None]") -> None:
        state = self.streamer.start()
        while not (self.ended and len(self.buffer) < 2):
            await self.arrived.wait()
            self.arrived.clear()
            num_bytes = len(self.buffer) // 2 * 2
            samples = np.frombuffer(bytes(self.buffer[:num_bytes]), "<i2")
            del self.buffer[:num_bytes]
            self.room.set()
            state = await self._on_thread(self.streamer.feed, samples, state)
        await receiving  # raises what ended it, if it was not the client's wish
        await self._on_thread(self.streamer.finish, state)

    async def _on_thread(self, function: Any, *arguments: Any) -> State:
        call = self.service.batcher.call(function, *arguments)
        events, state = await asyncio.wrap_future(call)
        for event in events:
            await self._tell(event)
        return state

    async def _tell(self, event: Event) -> None:
        segment = event.segment
        if event.final:
            self.finals.append(segment)
        kind = "final" if event.final else "partial"
        times = {"start_s": round(segment.start_s, 3), "end_s": round(segment.end_s, 3)}
        await self.socket.send_json({"type": kind, "text": segment.text, **times})


def is_end(text: str) -> bool:
    """Tell whether a message says that no more sound comes."""
    try:
        return json.loads(text) == {"type": "end"}
    except (ValueError, RecursionError):
        return False
