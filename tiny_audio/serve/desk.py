"""What the page's buttons do: a clip to its transcript or its trace, a message to an answer."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from tiny_audio.infer.jobs import Failed
from tiny_audio.infer.transcriber import Request, Timestamps, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE, stream_audio
from tiny_audio.model.errors import AudioError, CheckpointError, Reason, TinyAudioError
from tiny_audio.model.prompt import Turn
from tiny_audio.scope.page import render
from tiny_audio.scope.trace import trace

from .answering import Question, answer
from .player import clock, framed, player
from .refusals import Refusal

MAX_CLIP_S = 7_200.0  # one clip at a time: nobody should wait for another's whole day
MAX_TRACE_S = 60.0  # a page of 4 MB; five minutes would be 20
MAX_ANSWER_TOKENS = 256
Told = Callable[[float, float], None]  # seconds written, of how many


class Desk:
    """One model behind the page; `name` is what people call it."""

    def __init__(self, transcriber: Transcriber, name: str) -> None:
        self.transcriber, self.name = transcriber, name
        self.timestamps: Timestamps = "word"
        self.untimed = ""  # why words have no times
        try:
            transcriber.check(Request(timestamps="word"))
        except CheckpointError as error:
            self.timestamps, self.untimed = "segment", str(error)

    @property
    def takes_prompts(self) -> bool:
        """nano has learnt one instruction; another makes it worse, so it is not offered."""
        return self.name != "nano"

    def transcribe(self, clip: Path, hotwords: str, prompt: str, told: Told) -> str:
        """The player of a clip of up to two hours. Raises `TinyAudioError`."""
        words = tuple(word for word in hotwords.split(",") if word.strip())
        request = Request(prompt.strip() or None, words, self.timestamps)
        self.transcriber.check(request)
        total_s = measure(clip)
        told(0.0, total_s)

        def on_progress(_: object, seconds: float) -> None:
            told(seconds, total_s)

        (made,) = self.transcriber.transcribe_many([clip], request, on_progress=on_progress)
        if isinstance(made, Failed):
            raise made.error
        return player(made, clip)

    def reply(self, turns: Sequence[Turn]) -> Iterator[str]:
        """The answer to a conversation, longer and longer. Raises `TinyAudioError`."""
        question = Question(turns, [], None, MAX_ANSWER_TOKENS)
        pieces, abandoned = SimpleQueue[str | None](), Event()
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(answer, self.transcriber, question, pieces.put, abandoned)
            done.add_done_callback(lambda _: pieces.put(None))
            try:
                text = ""
                while (piece := pieces.get()) is not None:
                    text += piece
                    yield text
                if done.result().finish_reason == "length":
                    yield f"{text} …"
            finally:
                abandoned.set()

    def explain(self, clip: Path) -> str:
        """The trace of a clip of up to a minute, in a frame. Raises `TinyAudioError`."""
        measure(clip, MAX_TRACE_S, f"Take five minutes with: tiny-audio trace {clip.name}")
        page = render(trace(self.transcriber.model, clip, name=self.name))
        return framed(page, f"{clip.stem}_trace.html")


def measure(
    clip: Path, most_s: float = MAX_CLIP_S, cure: str = "Use: tiny-audio transcribe FILE"
) -> float:
    """Seconds of a clip, decoded to its end, which finds damage before any work is done."""
    num_samples = 0
    for block in stream_audio(clip):
        num_samples += len(block)
        if num_samples > most_s * SAMPLE_RATE:
            message = f"{clip.name}: longer than {clock(most_s)}. {cure}"
            raise AudioError(message, Reason.TOO_LONG)
    return num_samples / SAMPLE_RATE


def reason(error: TinyAudioError, clip: Path | None = None) -> str:
    """The message of an error, without where the server keeps its uploads."""
    message = error.detail if isinstance(error, Refusal) else str(error)
    return message if clip is None else message.replace(f"{clip.parent}/", "")
