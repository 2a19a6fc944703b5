"""The messages of `/v1/chat/completions`: OpenAI's, read strictly, and turned into `Turn`s."""

import base64
import binascii
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tiny_audio.model.prompt import Turn, turn_of

from .refusals import Refusal


class Strict(BaseModel):
    """A model that refuses a key that would be ignored."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Strict):
    type: Literal["text"]
    text: str


class InputAudio(Strict):
    data: str = Field(description="The file in base64; its bytes say what it is.")
    format: Literal["wav", "mp3"]


class AudioPart(Strict):
    type: Literal["input_audio"]
    input_audio: InputAudio


Part = Annotated[TextPart | AudioPart, Field(discriminator="type")]


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=16)]


class StreamOptions(Strict):
    include_usage: bool = False


class ChatRequest(Strict):
    """The part of OpenAI's request that this server does; nothing is taken and ignored."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float, Field(ge=0, le=0, description="Decoding is greedy.")] = 0.0
    n: Literal[1] = 1
    modalities: list[Literal["text"]] = ["text"]
    stream: bool = False
    stream_options: StreamOptions | None = None

    def turns(self) -> list[Turn]:
        """Return the conversation; a clip stands where its part stood."""
        if self.messages[-1].role != "user":
            message = "The last message must be the user's, because the model answers it"
            raise Refusal(400, f"{message}.", param="messages")
        return [turn(message) for message in self.messages]

    def sounds(self) -> list[str]:
        """Return the files of all audio parts in base64, in order."""
        return [
            part.input_audio.data
            for message in self.messages
            if not isinstance(message.content, str)
            for part in message.content
            if isinstance(part, AudioPart)
        ]


ROLES = {"developer": "system"}


def turn(message: Message) -> Turn:
    """Turn a message into a turn with a place for each clip; `<audio>` in a text stays text."""
    content = message.content
    parts = [TextPart(type="text", text=content)] if isinstance(content, str) else content
    if message.role != "user" and any(isinstance(part, AudioPart) for part in parts):
        raise Refusal(400, "Only the user's messages may hold audio.", param="messages")
    texts = [part.text if isinstance(part, TextPart) else None for part in parts]
    return turn_of(ROLES.get(message.role, message.role), texts)


def decoded(data: str) -> bytes:
    """Return the bytes of a base64 text."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"input_audio.data is not base64 ({error}). Encode the file's bytes"
        raise Refusal(400, f"{message}.", param="messages") from error
