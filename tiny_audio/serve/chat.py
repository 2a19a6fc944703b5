"""POST /v1/chat/completions: questions about audio, or text alone."""

import asyncio
import io
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack, aclosing
from threading import Event
from typing import Any

import torch
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tiny_audio.infer.asking import Question
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import TinyAudioError
from tiny_audio.model.generation import token_limit

from .answering import Answer, answer
from .conversation import ChatRequest, decoded
from .refusals import Refusal, answers, refuse_query
from .service import Service, first_of, unless_gone
from .transcriptions import error_event, event

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    responses=answers("text/event-stream"),
    dependencies=[Depends(refuse_query)],
)
async def complete(request: Request, asked: ChatRequest) -> Response:
    """Answer a conversation, greedily."""
    service: Service = request.app.state.service
    service.check_model(asked.model)
    for turn in asked.turns():
        service.check_text(turn.text, "messages")
    reply = _Reply(service, asked)
    if not asked.stream:
        found = await unless_gone(request, reply.whole(), service.limits.request_timeout_s)
        return JSONResponse(found)
    pieces = reply.pieces()
    first = await unless_gone(request, first_of(pieces, ""), service.limits.request_timeout_s)
    return StreamingResponse(reply.events(first, pieces), media_type="text/event-stream")


class _Reply:
    """One answer while it is written."""

    def __init__(self, service: Service, asked: ChatRequest) -> None:
        self.service, self.asked = service, asked
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.abandoned = Event()
        self.answer: Answer | None = None

    async def whole(self) -> dict[str, Any]:
        """Return the answer as one object."""
        text = "".join([piece async for piece in self.pieces()])
        assert self.answer is not None
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self.answer.finish_reason}
        return self._object("chat.completion", {**choice, "logprobs": None}, usage(self.answer))

    async def pieces(self) -> AsyncIterator[str]:
        """Yield the text as it is written; `answer` is set when it has ended."""
        with ExitStack() as stack:
            question = await self._question(stack)
            async with aclosing(self._written(question)) as written:
                async for piece in written:
                    yield piece

    async def _written(self, question: Question) -> AsyncGenerator[str, None]:
        loop, spoken = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def emit(piece: str | None) -> None:
            loop.call_soon_threadsafe(spoken.put_nowait, piece)

        batcher, transcriber = self.service.batcher, self.service.transcriber
        done = batcher.call(answer, transcriber, question, emit, self.abandoned)
        done.add_done_callback(lambda _: emit(None))
        try:
            while (piece := await spoken.get()) is not None:
                yield piece
            self.answer = done.result()
        finally:
            self.abandoned.set()
            done.cancel()

    async def events(self, first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
        """Yield chunks as OpenAI's clients read them."""
        yield self._chunk({"role": "assistant", "content": first})
        try:
            async with asyncio.timeout(self.service.limits.request_timeout_s):
                async for piece in rest:
                    yield self._chunk({"content": piece})
        except TimeoutError:
            yield error_event(504, "The answer took too long. Ask for fewer max_tokens.")
            return
        except TinyAudioError as error:
            yield error_event(500, str(error))
            return
        assert self.answer is not None
        yield self._chunk({}, self.answer.finish_reason)
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            yield event(self._object("chat.completion.chunk", None, usage(self.answer)))
        yield "data: [DONE]\n\n"

    async def _question(self, stack: ExitStack) -> Question:
        """Decode clip by clip, and end as soon as their sum is too much."""
        asked, service = self.asked, self.service
        turns, sounds, clips = asked.turns(), asked.sounds(), list[torch.Tensor]()
        # Every clip takes a position at least: most of what is too much is so before it is decoded.
        await service.on_model(service.transcriber.room.check, turns, [1] * len(sounds))
        for sound in sounds:
            upload = await service.decode(io.BytesIO(decoded(sound)))
            stack.enter_context(service.holding(upload))
            clips.append(torch.from_numpy(upload.samples_N.copy()))
            self._check([len(clip) for clip in clips], len(sounds))
        return Question(turns, clips, self._most_tokens(clips))

    def _most_tokens(self, clips: Sequence[torch.Tensor]) -> int:
        """Return the most tokens of an answer: as many as are asked for, else as many as can be
        said in the clips' time; never more than the service allows.
        """
        limit, heard_s = self.service.limits.max_answer_tokens, sum(map(len, clips)) / SAMPLE_RATE
        wanted = self.asked.max_completion_tokens or self.asked.max_tokens
        return min(wanted or (token_limit(heard_s) if clips else limit), limit)

    def _check(self, lengths: list[int], num_clips: int) -> None:
        """Refuse what the encoder, a batch, or the decoder could not take."""
        config, limits = self.service.transcriber.model.config, self.service.limits
        longest, window = max(lengths), config.encoder.max_samples
        if config.prompt.long_audio == "error" and window and longest > window:
            problem = f"A clip of {longest / SAMPLE_RATE:.1f} s; the model hears"
            problem += f" {window / SAMPLE_RATE:g} s in a question"
            raise Refusal(
                400,
                f"{problem}. Cut it, or transcribe it with /v1/audio/transcriptions.",
                param="messages",
            )
        padded_s = num_clips * longest / SAMPLE_RATE
        if num_clips > 1 and padded_s > limits.batch_s:
            problem = f"{num_clips:,} clips, the longest of {longest / SAMPLE_RATE:.1f} s, take"
            problem += f" {padded_s:,.0f} s with padding; a question has {limits.batch_s:g} s"
            raise Refusal(400, f"{problem}. Send fewer or shorter ones.", param="messages")
        positions, most = sum(map(config.positions_for, lengths)), self.service.num_positions
        if positions > most:
            problem = f"{len(lengths):,} of the clips take {positions:,} positions"
            problem += f" of the decoder's {most:,}"
            raise Refusal(400, f"{problem}. Send fewer or shorter ones.", param="messages")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return event(self._object("chat.completion.chunk", choice))

    def _object(
        self, kind: str, choice: dict[str, Any] | None, usage: dict[str, int] | None = None
    ) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.service.name}
        return {**head, "choices": [choice] if choice else [], "usage": usage}


def usage(answer: Answer) -> dict[str, int]:
    """Count tokens of prompt and answer; an embedding of audio counts as one."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
