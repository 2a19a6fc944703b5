"""Turning a conversation into tokens, on the model's thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor

from tiny_audio.infer.transcriber import FEATURE_KEYS, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.generation import token_limit, write
from tiny_audio.model.modeling import as_features
from tiny_audio.model.prompt import AUDIO, Turn, transcription_turns


@dataclass(frozen=True)
class Question:
    """A conversation, the clips of its placeholders, and the most tokens of the answer (None:
    enough).
    """

    turns: Sequence[Turn]
    clips: Sequence[Tensor]
    max_tokens: int | None
    limit: int  # of the service

    @property
    def num_tokens(self) -> int:
        """Return the most tokens to write."""
        heard_s = sum(len(clip) for clip in self.clips) / SAMPLE_RATE
        usual = token_limit(heard_s) if self.clips else self.limit
        return min(self.max_tokens or usual, self.limit)


@dataclass(frozen=True)
class Answer:
    """The text of an answer, why it ended ("stop" or "length"), and what it cost."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class AbandonedError(RuntimeError):
    """Raised where nobody waits for the answer any more."""


@torch.inference_mode()
def answer(
    transcriber: Transcriber, question: Question, emit: Callable[[str], None], abandoned: Event
) -> Answer:
    """Write the answer; `emit` gets its text piece by piece. `abandoned` ends it early."""
    model, processor = transcriber.model, transcriber.processor
    turns = _asked(transcriber, question.turns)
    transcriber.check_room(turns, [len(clip) for clip in question.clips], question.num_tokens)
    batch = processor.batch([turns], [question.clips]).to(model.device)
    ids, mask = batch.pop("input_ids"), batch.pop("attention_mask")
    clips = as_features(*(batch.get(name) for name in FEATURE_KEYS))
    if clips is None:
        embeds_BLD = model.get_input_embeddings()(ids)
    else:
        audio = model.embed_audio(clips)
        embeds_BLD = model.fuse(ids, audio.audio_BPD, audio.lengths_B)
    speaking = _Speaking(transcriber, emit, abandoned)
    stop = processor.stop_ids()
    written = write(model, embeds_BLD, mask, stop, [question.num_tokens], speaking.step)[0]
    speaking.end(written.tokens)
    reason = "stop" if written.finish_reason == "stop" else "length"  # a loop is cut, too
    return Answer(speaking.text, reason, ids.shape[1], len(written.tokens))


def _asked(transcriber: Transcriber, turns: Sequence[Turn]) -> list[Turn]:
    """Ask a clip without a text what the model was trained with."""
    instructed = transcription_turns(transcriber.model.config.prompt)
    return [instructed[0] if turn == Turn("user", AUDIO) else turn for turn in turns]


class _Speaking:
    """Gives out text as soon as later tokens cannot change it."""

    def __init__(
        self, transcriber: Transcriber, emit: Callable[[str], None], abandoned: Event
    ) -> None:
        self.transcriber, self.emit, self.abandoned = transcriber, emit, abandoned
        self.text = ""

    def step(self, _: int, tokens: Sequence[int]) -> Mapping[int, float]:
        """Watch a token before it is chosen, and favour none."""
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
