"""The whole service: an upload becomes samples, windows, and segments as they are written."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from starlette.requests import Request

from tiny_audio.infer.joining import join
from tiny_audio.infer.longform import Window
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Request as Asked
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.infer.voices import Voice, voices_of
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import CheckpointError, MissingExtra

from .batcher import Batcher
from .counters import Metrics
from .limits import Limits
from .refusals import CLIENT_GONE, Refusal
from .uploads import DecodedUpload, DecodePool

# Windows of one request that wait in the queue: a long file must not keep the others out.
WINDOWS_AHEAD = 8
T = TypeVar("T")


class Service:
    """A transcriber behind a queue; `language` is what it was trained to write.

    Clients call it by any of its `names`; answers have the first."""

    def __init__(
        self,
        transcriber: Transcriber,
        names: Sequence[str],
        language: str,
        limits: Limits,
        folder: Path,
    ) -> None:
        self.transcriber, self.names, self.language = transcriber, names, language
        self.name = names[0]
        self._untimed: str | None = None
        self._unvoiced: str | None = None
        self.limits = limits
        self.metrics = Metrics()
        self.decoding = DecodePool(limits, folder, self.metrics)
        self.batcher = Batcher(transcriber, limits, self.metrics)
        self.num_positions = transcriber.room.num_positions
        self.held_s = 0.0  # decoded and not yet written
        self.num_live = 0

    def close(self) -> None:
        """Finish what was begun and end all threads and processes."""
        self.decoding.close()
        self.batcher.close()

    def check_model(self, asked: str | None) -> None:
        """Refuse another model than the one that is served."""
        if asked is not None and asked not in self.names:
            names = " or ".join(map(repr, self.names))
            message = f"There is no model {asked[:100]!r} here; use {names}"
            raise Refusal(404, f"{message}.", param="model")

    def check_text(self, text: str | None, name: str) -> None:
        """Refuse what is too long or no text; control tokens are found on the model's thread."""
        limit = self.limits.max_prompt_chars
        if text is not None and len(text) > limit:
            message = f"{name}: a text of {len(text):,} characters; the limit is {limit:,}"
            raise Refusal(400, f"{message}. Shorten it.", param=name)
        if text is not None and any("\ud800" <= c <= "\udfff" for c in text):
            message = f"{name}: the text holds half of a surrogate pair, which is no character"
            raise Refusal(400, f"{message}. Send valid Unicode.", param=name)

    async def untimed(self) -> str:
        """Say why words have no times; "" where they have."""
        if self._untimed is None:
            self._untimed = await self._lacking(Asked(timestamps="word"))
        return self._untimed

    async def unvoiced(self) -> str:
        """Say why the service cannot say who spoke; "" where it can."""
        if self._unvoiced is None:
            self._unvoiced = await self._lacking(Asked(timestamps="word", diarize=True))
        return self._unvoiced

    async def _lacking(self, asked: Asked) -> str:
        try:
            await self.on_model(self.transcriber.check, asked)
        except (CheckpointError, MissingExtra) as error:
            return str(error)
        return ""

    async def on_model(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something on the model's thread, where alone models and tokenizers may be used."""
        return await asyncio.wrap_future(self.batcher.call(function, *arguments))

    async def decode(self, file: BinaryIO, track: int | None = None) -> DecodedUpload:
        """Decode an upload in a process of its own."""
        return await asyncio.wrap_future(self.decoding.submit(file, track))

    @contextmanager
    def holding(self, upload: DecodedUpload) -> Iterator[None]:
        """Count decoded audio while it lies in the temporary folder."""
        if self.held_s + upload.duration_s > self.limits.max_held_s:
            message = f"{self.held_s:,.0f} s of audio are waiting already"
            raise Refusal(503, f"{message}. Try again in 30 s.", retry_after_s=30)
        self.held_s += upload.duration_s
        try:
            yield
        finally:
            self.held_s -= upload.duration_s

    async def segments(self, upload: DecodedUpload, asked: Asked) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file in order; its windows share batches with those of others."""
        last: Segment | None = None
        async with aclosing(self._written(upload, asked)) as written:
            async for window, segment in written:
                if last and window.overlap:
                    last, segment = join(last, segment, window.overlap / SAMPLE_RATE)
                if last:
                    yield last
                last = segment
        assert last is not None, "a file without samples is refused when it is decoded"
        yield last

    async def voices(self, upload: DecodedUpload, segments: Sequence[Segment]) -> list[Voice]:
        """Return what is heard of voices where something was said, one segment at a time."""
        found = list[Voice]()
        for segment in segments:
            if segment.words:
                first, after = (round(s * SAMPLE_RATE) for s in (segment.start_s, segment.end_s))
                samples_N = torch.tensor(upload.samples_N[first:after])
                window = Window(first, samples_N)
                found += await self.on_model(voices_of, window, self.transcriber.voices)
        return found

    async def _written(
        self, upload: DecodedUpload, asked: Asked
    ) -> AsyncGenerator[tuple[Window, Segment], None]:
        windows = self.transcriber.windows(upload.samples_N, SAMPLE_RATE, [])
        ahead: deque[tuple[Window, asyncio.Future[Segment]]] = deque()
        try:
            while (window := await asyncio.to_thread(next, windows, None)) is not None:
                ahead.append((window, asyncio.wrap_future(self.batcher.submit(window, asked))))
                if len(ahead) == WINDOWS_AHEAD:
                    yield ahead[0][0], await ahead[0][1]
                    ahead.popleft()
            while ahead:
                yield ahead[0][0], await ahead[0][1]
                ahead.popleft()
        finally:
            for _, waiting in ahead:
                waiting.cancel()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Return the result of `work`, which ends when the client goes or the time is over."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=timeout_s, return_when="FIRST_COMPLETED")
        if task in done:
            return task.result()
        if gone in done:
            raise Refusal(CLIENT_GONE, "The client went away.")
        raise Refusal(504, f"Not answered within {timeout_s:g} s. Send a shorter file.")
    finally:
        for each in (task, gone):
            each.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def first_of(pieces: AsyncIterator[T], otherwise: T) -> T:
    """Return the first piece before an answer begins, since the request may still be refused."""
    return await anext(pieces, otherwise)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
