"""Questions about any number of clips are answered here, in turns and in batches.

    transcriber.ask("Which is faster, <audio> or <audio>?", ["a.mp3", "b.mp3@30-60"]).text

Whether a prompt fits into the decoder is known, and refused, before anything is computed; an answer
says why it ended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from tiny_audio.data.sounds import FileSound
from tiny_audio.data.stretches import PartSound
from tiny_audio.model.audio import SAMPLE_RATE, Audio, load_audio
from tiny_audio.model.errors import AudioError, PromptError, Reason
from tiny_audio.model.generation import Bias, FinishReason, Written, before_loop, write
from tiny_audio.model.messages import conversation_of
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import prepare
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.prompt import AUDIO, Turn, refuse_counts, transcription_turns

from .room import Room

# song.mp3@30-60, song.mp3@0.5-1.25, song.mp3@90- (to its end).
SEGMENT = re.compile(r"(?P<file>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)?", re.DOTALL)


class Respondent(Protocol):
    """The part of a `Transcriber` that questions need."""

    model: AudioLM
    processor: AudioProcessor
    room: Room


@dataclass(frozen=True)
class Question:
    """A question is turns, and the clips of their placeholders: samples_N at 16 kHz, in order.

    `max_tokens` None: `ANSWER_TOKENS` of `room.py`, or as many as there is room for; a number must
    have room.
    """

    turns: Sequence[Turn]
    clips: Sequence[torch.Tensor] = ()
    max_tokens: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer says what was written, why it ended and what it cost; "stop" ends a whole one."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    notes: tuple[str, ...] = ()  # what decoding the clips lost or changed

    @property
    def complete(self) -> bool:
        """Tell whether the decoder came to its end by itself."""
        return self.finish_reason == "stop"


def question(
    transcriber: Respondent,
    asked: str | Sequence[Any] | None,
    audio: Any = (),
    max_tokens: int | None = None,
    sampling_rate: int | None = None,
) -> Question:
    """Make a question of a text, turns or transformers' messages, and of sources of audio.

    One source stands for itself, a list or tuple for several; those of messages come with them.
    """
    sources = list(audio) if isinstance(audio, list | tuple) else [audio]
    if asked is None or isinstance(asked, str):
        turns = transcription_turns(transcriber.model.config.prompt, asked, len(sources))
    else:
        turns, inside = _turns_of(asked)
        if inside and sources:
            raise PromptError(
                f"The messages hold {len(inside)} clip(s), and {len(sources)} more came beside "
                f"them; put every clip into its place in the messages."
            )
        sources = sources or inside
    if not turns or turns[-1].role != "user":
        raise PromptError("The last turn must be the user's, because the model answers it.")
    refuse_counts(turns, len(sources))  # before anything is decoded
    loaded = [load_source(source, sampling_rate) for source in sources]
    notes = tuple(f"{one.source}: {note}" for one in loaded for note in one.notes)
    notes += untaught(transcriber, turns)
    return Question(turns, [one.samples for one in loaded], max_tokens, notes)


def untaught(transcriber: Respondent, turns: Sequence[Turn]) -> tuple[str, ...]:
    """Say that a model was trained on its instruction alone, where something else is asked.

    A model that learnt other questions may understand more of them than it learnt.
    """
    config = transcriber.model.config
    usual = transcription_turns(config.prompt)
    if config.tasks or instructed(transcriber, turns[-1:]) == usual:
        return ()
    return (
        f"this model was trained on the one instruction {usual[0].text!r}: it may repeat another "
        f"question, or transcribe, instead of answering (docs/guides/asking.md)",
    )


def _turns_of(asked: Sequence[Any]) -> tuple[list[Turn], list[Any]]:
    """Return turns as they are, or those of messages with their clips."""
    if asked and isinstance(asked[0], Mapping):
        return conversation_of(asked)
    return list(asked), []


def load_source(source: Any, sampling_rate: int | None = None) -> Audio:
    """Load any source of `load_audio`, or a stretch: "song.mp3@30-60" is its second half minute.

    A file that is really called so is that file.
    """
    if isinstance(source, str | os.PathLike) and not Path(source).exists():
        name = os.fspath(source)
        if isinstance(name, str) and (found := SEGMENT.fullmatch(name)):
            return _segment(name, found)
    return load_audio(source, sampling_rate)


def _segment(name: str, found: re.Match[str]) -> Audio:
    start_s, end_s = float(found["start"]), float(found["end"]) if found["end"] else None
    if end_s is not None and end_s <= start_s:
        problem = f"the stretch ends at {end_s:g} s and begins at {start_s:g} s"
        raise AudioError(f"{name}: {problem}. Write FILE@START-END in seconds.", Reason.ARGUMENT)
    part = PartSound(FileSound(found["file"]), start_s, end_s)
    part.measure(0.0)  # refuses one that begins behind the end
    return Audio(torch.from_numpy(part.samples()), SAMPLE_RATE, name)


def answer(transcriber: Respondent, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions in one batch; some may have audio and others none."""
    if not questions:
        return []
    made = []
    for one, (written, num_tokens) in zip(questions, reply(transcriber, questions), strict=True):
        kept = before_loop(written) if written.finish_reason == "loop" else written
        text = transcriber.processor.tokenizer.decode(kept.tokens, skip_special_tokens=True)
        reason, num_written = written.finish_reason, len(written.tokens)
        made.append(Answer(text.strip(), reason, num_tokens, num_written, one.notes))
    return made


@torch.inference_mode()
def reply(
    transcriber: Respondent, questions: Sequence[Question], bias: Bias | None = None
) -> list[tuple[Written, int]]:
    """Return what is written, and how many tokens and audio embeddings each prompt had."""
    turns = [instructed(transcriber, one.turns) for one in questions]
    lengths = [[len(clip) for clip in one.clips] for one in questions]
    limits = [
        transcriber.room.left(conversation, samples, one.max_tokens)
        for conversation, samples, one in zip(turns, lengths, questions, strict=True)
    ]
    embeds_BLD, mask_BL = prepare(transcriber.model, turns, [one.clips for one in questions])
    stops = transcriber.processor.stop_ids()
    written = write(transcriber.model, embeds_BLD, mask_BL, stops, limits, bias)
    return list(zip(written, mask_BL.sum(-1).tolist(), strict=True))


def instructed(transcriber: Respondent, turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns, in which a clip without any text gets the instruction of training."""
    usual = transcription_turns(transcriber.model.config.prompt)
    return [usual[0] if turn == Turn("user", AUDIO) else turn for turn in turns]
