"""Turning a conversation into tokens, on the model's thread."""

from collections.abc import Callable, Mapping, Sequence
from threading import Event

from tiny_audio.infer.asking import Answer, Question, reply
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.generation import FinishReason


class AbandonedError(RuntimeError):
    """Raised where nobody waits for the answer any more."""


def answer(
    transcriber: Transcriber, question: Question, emit: Callable[[str], None], abandoned: Event
) -> Answer:
    """Write the answer; `emit` gets its text piece by piece. `abandoned` ends it early."""
    speaking = _Speaking(transcriber, emit, abandoned)
    ((written, num_tokens),) = reply(transcriber, [question], speaking.step)
    speaking.end(written.tokens)
    reason: FinishReason = "stop" if written.finish_reason == "stop" else "length"  # a loop, too
    return Answer(speaking.text, reason, num_tokens, len(written.tokens))


class _Speaking:
    """Gives out text as soon as later tokens cannot change it."""

    def __init__(
        self, transcriber: Transcriber, emit: Callable[[str], None], abandoned: Event
    ) -> None:
        self.transcriber, self.emit, self.abandoned = transcriber, emit, abandoned
        self.text = ""

    def step(self, _: int, tokens: Sequence[int]) -> Mapping[int, float]:
        """Give out the text so far before the next token is chosen, and favour no token."""
        if self.abandoned.is_set():
            raise AbandonedError
        text = self._decode(tokens)
        # Half a character decodes to U+FFFD; white space at the end may yet be stripped.
        if not text.endswith("\ufffd"):
            self._say(text)
        return {}

    def end(self, tokens: Sequence[int]) -> None:
        self._say(self._decode(tokens))

    def _decode(self, tokens: Sequence[int]) -> str:
        tokenizer = self.transcriber.processor.tokenizer
        return tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def _say(self, text: str) -> None:
        if text.startswith(self.text) and text != self.text:
            self.emit(text[len(self.text) :])
            self.text = text
