"""`tiny-audio ask`: questions about clips, or text alone."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import fail, refusing, say
from tiny_audio.commands.options import Device, Model
from tiny_audio.files import json_line

if TYPE_CHECKING:
    from tiny_audio.infer.asking import Answer, Question
    from tiny_audio.infer.transcriber import Transcriber
    from tiny_audio.model.prompt import Turn

CLIP = "/audio "  # in a chat: a clip for the next question
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="Largest number of tokens in an answer; by default 512, or what fits."
    ),
]


def ask(
    question: Annotated[
        str | None,
        typer.Argument(
            help=(
                "Question. Write <audio> where a clip belongs; without it, clips follow the text. "
                "Without a question the model gets the instruction that it was trained with."
            )
        ),
    ] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Clip to ask about, or a stretch of one: song.mp3@30-60. Repeat it for every clip."
            )
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help=(
                "Then read more lines from stdin: /audio FILE adds a clip, and every other "
                "line is a question."
            ),
        ),
    ] = False,
    max_tokens: MaxTokens = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object for each answer: its text, why it ended, and its cost.",
        ),
    ] = False,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
) -> None:
    """Ask about one clip, about several, or about none.

    Exit code 1 if an answer was cut off, or if a question of a chat has none.
    """
    from tiny_audio.infer.transcriber import Transcriber
    from tiny_audio.model.errors import ConfigError, TinyAudioError

    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        if question is None and not audio and not chat:
            raise ConfigError("Nothing is asked; give a question, --audio FILE, or --chat.")
        talk = Talk(Transcriber.from_pretrained(model, device=device), max_tokens, json)
        if question is not None or audio:
            talk.ask(question, audio or [])
    for line in map(str.strip, sys.stdin) if chat else ():
        try:
            talk.read(line)
        except TinyAudioError as error:  # the talk goes on
            fail("", error)
            talk.num_failed += 1
    if talk.waiting:
        fail("", ConfigError(f"{', '.join(talk.waiting)}: no question followed."))
    if talk.num_cut or talk.num_failed or talk.waiting:
        raise typer.Exit(1)


class Talk:
    """A conversation: its messages and clips so far, and the clips of the next question."""

    def __init__(self, transcriber: Transcriber, max_tokens: int | None, json: bool) -> None:
        self.transcriber, self.max_tokens, self.json = transcriber, max_tokens, json
        self.before: Question | None = None
        self.answered: list[Turn] = []
        self.waiting: list[str] = []
        self.num_cut = self.num_failed = 0

    def read(self, line: str) -> None:
        """Read a line of the chat: a clip, which waits for its question, or the question."""
        if line.startswith(CLIP):
            self.waiting.append(line.removeprefix(CLIP).strip())
        elif line:
            sources, self.waiting = self.waiting, []
            self.ask(line, sources)

    def ask(self, asked: str | None, sources: list[str]) -> None:
        """Print the answer, which the next question will have before it."""
        from dataclasses import replace

        from tiny_audio.infer.asking import question
        from tiny_audio.model.prompt import Turn

        new = question(self.transcriber, asked, sources, self.max_tokens)
        turns, clips = [*self.answered, *new.turns], list(new.clips)
        if self.before is not None:
            clips = [*self.before.clips, *clips]
        whole = replace(new, turns=turns, clips=clips)
        (answer,) = self.transcriber.ask_many([whole])
        self.before, self.answered = whole, [*turns, Turn("assistant", answer.text)]
        self.show(answer)

    def show(self, answer: Answer) -> None:
        """The answer on stdout; what a reader must know besides on stderr."""
        print(json_line(asdict(answer)) if self.json else answer.text, flush=True)
        self.num_cut += not answer.complete
        if self.json:
            return
        for note in answer.notes:
            say(note, "yellow")
        if answer.finish_reason == "length":
            more = f"cut off after {answer.completion_tokens} tokens; more: --max-tokens N"
            say(f"the answer is incomplete ({more})", "yellow")
        elif answer.finish_reason == "loop":
            say("the answer is incomplete (it began to repeat itself, and ends there)", "yellow")
