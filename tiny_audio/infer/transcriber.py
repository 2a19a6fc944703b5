"""Transcribing whole files: cut them into windows in pauses, transcribe windows in batches, join.

Memory does not grow with the file: it is decoded as a stream, and a window is forgotten once
written. Windows of several files share batches.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from tiny_audio import DEFAULT_MODEL
from tiny_audio.model.audio import SAMPLE_RATE, load_audio, stream_audio
from tiny_audio.model.beam import search
from tiny_audio.model.checkpoint import checkpoint_folder
from tiny_audio.model.decoding import DecodingConfig
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.generation import Bias, Written, before_loop, token_limit, write
from tiny_audio.model.hub import OPTIONS
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import prepare
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.prompt import Turn, refuse_counts, transcription_turns
from tiny_audio.presets import SHIPPED, load

from .asking import Answer, Question, answer, question
from .hotwords import Hotwords
from .hum import without_hum
from .jobs import POOL_WINDOWS, Failed, Job, batches, finished
from .judging import Head, is_doubted, judge, of_characters, of_tokens, support_of
from .longform import CutPolicy, Window, cut, policy_of
from .request import AS_WRITTEN, PLAIN, Request, Timestamps
from .results import Outcome, Segment, Timings, Transcript, Word
from .room import Room
from .timestamps import Aligner, confidences, load_aligner
from .token_head import load_token_head
from .voices import Embed, load_voices

Asked = str | Sequence[list[Turn]] | None  # of all windows, or the turns of each
OUTCOMES: dict[str, Outcome] = {"stop": "ok", "length": "cut_off", "loop": "loop"}


class Transcriber:
    """A model that is ready to turn audio into text.

    ```python
    Transcriber.from_pretrained().transcribe("speech.flac").text
    ```
    """

    def __init__(self, model: AudioLM, *, head: Path | None = None, checkpoint: Path | None = None):
        """`head` is the folder of a CTC head for the times of words; `checkpoint` may hold one."""
        if isinstance(model, str | Path):
            text = f"Transcriber({str(model)!r}) names a model, and takes one that is loaded."
            raise ConfigError(f"{text} Write Transcriber.from_pretrained({str(model)!r}).")
        self.model = model.eval()
        self.processor = AudioProcessor(model.tokenizer, model.config)
        self._head = head, checkpoint
        self.room = Room(model)

    @classmethod
    def from_pretrained(
        cls, source: str | Path = DEFAULT_MODEL, *, head: Path | None = None, **options: Any
    ) -> "Transcriber":
        """Load "tiny", "nano", a checkpoint folder or a Hub id; options as in `tiny_audio.load`.

        Adapters are merged into their layers unless `merge=False` is among the options.
        """
        hub = {name: options[name] for name in OPTIONS if name in options}
        # Heads lie beside the weights; those of the package's own models are found by their hash.
        folder = None if str(source) in SHIPPED else checkpoint_folder(source, **hub)
        model = load(folder or source, **{"merge": True, **options})
        return cls(model, head=head, checkpoint=folder)

    @cached_property
    def aligner(self) -> Aligner:
        """Return what finds the times of words, loaded when needed; raises `CheckpointError`."""
        return load_aligner(self.model, *self._head)

    @cached_property
    def _aligner_if_any(self) -> Aligner | None:
        try:
            return self.aligner
        except CheckpointError:
            return None

    @cached_property
    def voices(self) -> Embed:
        """Return what tells voices apart; loaded when first needed. Raises `MissingExtra`."""
        return load_voices()

    def timed(self, window: Window, segment: Segment) -> Segment:
        """Return the segment of a window with the times of its words, where there is a CTC head."""
        if not segment.text or self._aligner_if_any is None:
            return segment
        start_s = window.start / SAMPLE_RATE
        words = self._aligner_if_any.words(window.samples_N, segment.text, start_s)
        return replace(segment, words=words)

    def check(self, request: Request) -> None:
        """Raise now what would be raised with the first window."""
        turns = transcription_turns(self.model.config.prompt, request.prompt)
        refuse_counts(turns, 1)
        self.room.check(turns, [1])
        self._bias(request)
        if request.timestamps == "word":
            _ = self.aligner
        if request.diarize:
            _ = self.voices
        if self.decoding(request).ctc_weight:
            _ = self.heads

    def decoding(self, request: Request) -> DecodingConfig:
        """Return how a request is decoded with this model."""
        return request.decoding(self.model.config.decoding)

    @property
    def policy(self) -> CutPolicy:
        """Return how long audio is cut for this model's encoder."""
        return policy_of(self.model.config.encoder)

    def cutting(self, whole: bool) -> CutPolicy:
        """Return the policy, or the same without pauses."""
        return self.policy.without_pauses() if whole else self.policy

    def transcribe(
        self,
        source: Any,
        *,
        prompt: str | None = None,
        hotwords: Sequence[str] = (),
        timestamps: Timestamps = "segment",
        min_logprob: float | None = None,
        beams: int | None = None,
        ctc_weight: float | None = None,
        whole: bool = False,
        diarize: bool = False,
        speakers: int | None = None,
        sampling_rate: int | None = None,
        channel: int | None = None,
        track: int | None = None,
        allow_truncated: bool = False,
    ) -> Transcript:
        """Transcribe any audio source of any length: path, bytes, array or tensor (with its rate).

        The first nine options are those of `Request`, the others those of `load_audio`. With
        `diarize` words have times too. Raises `AudioError`, `CheckpointError` where no aligner for
        the model is there, and `MissingExtra`.
        """
        words = (hotwords,) if isinstance(hotwords, str) else tuple(hotwords)
        timed: Timestamps = "word" if diarize else timestamps
        request = Request(
            prompt, words, timed, min_logprob, beams, ctc_weight, whole, diarize, speakers
        )
        options: dict[str, Any] = {"channel": channel, "track": track}
        options["allow_truncated"] = allow_truncated
        (made,) = self.transcribe_many([source], request, sampling_rate=sampling_rate, **options)
        if isinstance(made, Failed):
            raise made.error
        return made

    def ask(
        self,
        asked: str | Sequence[Any] | None = None,
        audio: Any = (),
        *,
        max_tokens: int | None = None,
        sampling_rate: int | None = None,
    ) -> Answer:
        """Answer a question about clips, or what the last of some turns asks.

        `asked` is a text, turns, or messages of transformers. `<audio>` says where a clip belongs;
        without it clips come after the text. `audio` is one source or a list; "song.mp3@30-60" is
        a stretch. Raises `PromptError` with both counts where they differ, and where the prompt
        does not fit into the decoder.
        """
        return self.ask_many([question(self, asked, audio, max_tokens, sampling_rate)])[0]

    def ask_many(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions (`asking.question`) in one batch."""
        return answer(self, questions)

    def transcribe_many(
        self,
        sources: Iterable[Any],
        request: Request = PLAIN,
        *,
        on_progress: Callable[[Any, float], None] | None = None,
        sampling_rate: int | None = None,
        **options: Any,
    ) -> Iterator[Transcript | Failed]:
        """Yield a `Transcript` for every source, or why there is none, in order.

        Windows of neighbouring sources share batches, so a transcript may come late. `on_progress`
        is told how many seconds of a source are written. Options are those of `load_audio`.
        """
        jobs, pool = deque[Job](), list[tuple[Job, Window]]()
        timed = None if request.timestamps == "word" else self.timed
        embed = self.voices if request.diarize else None
        for source in sources:
            jobs.append(job := Job(source, timed=timed, embed=embed, num_speakers=request.speakers))
            for window in job.read(
                self.windows(source, sampling_rate, job.notes, request.whole, **options)
            ):
                pool.append((job, window))
                if len(pool) == POOL_WINDOWS:
                    self._write_pool(pool, request, on_progress)
                    yield from finished(jobs)
        self._write_pool(pool, request, on_progress)
        yield from finished(jobs)

    def windows(
        self,
        source: Any,
        sampling_rate: int | None,
        notes: list[str],
        whole: bool = False,
        **options: Any,
    ) -> Iterator[Window]:
        """Yield consecutive windows that cover every sample and fit the encoder; add `notes`."""
        if self.model.config.prompt.long_audio != "error":  # one prompt hears the whole clip
            audio = load_audio(source, sampling_rate, **options)
            notes += audio.notes
            yield Window(0, audio.samples)
        else:
            blocks = stream_audio(source, sampling_rate, notes=notes, **options)
            yield from cut(blocks, self.cutting(whole))

    def _write_pool(
        self,
        pool: list[tuple[Job, Window]],
        request: Request,
        on_progress: Callable[[Any, float], None] | None,
    ) -> None:
        """Empty the pool: transcribe windows in batches of like length for their jobs."""
        segments: dict[int, tuple[Segment, Timings]] = {}
        for batch in batches([window for _, window in pool]):
            made = self._transcribe_batch([pool[number][1] for number in batch], request)
            segments |= zip(batch, made, strict=True)
        for number, (job, window) in enumerate(pool):
            job.take(window, *segments[number])
            if on_progress:
                on_progress(job.source, job.segments[-1].end_s)
        pool.clear()

    def transcribe_windows(
        self, windows: Sequence[Window], prompt: Asked = None, request: Request = AS_WRITTEN
    ) -> list[Segment]:
        """Transcribe windows together; by default all that was written is kept.

        `prompt` may ask each something else.
        """
        return [segment for segment, _ in self._transcribe_batch(windows, request, prompt)]

    def _transcribe_batch(
        self, windows: Sequence[Window], request: Request, prompt: Asked = None
    ) -> list[tuple[Segment, Timings]]:
        """Return segments with each window's share of the time."""
        loud = [number for number, window in enumerate(windows) if not window.quiet]
        made = [(silence(window), Timings()) for window in windows]
        if not loud:
            return made
        spoken: Sequence[Window] = [windows[number] for number in loud]
        asked = [prompt[n] for n in loud] if isinstance(prompt, list) else prompt or request.prompt
        spoken = self.cleared(spoken, asked)
        started = perf_counter()
        embeds_BLD, mask_BL = self.encode(spoken, asked)
        encoded = perf_counter()
        written = self.write_prompts(spoken, embeds_BLD, mask_BL, request)
        segments = [self.segment(*each, request) for each in zip(spoken, written, strict=True)]
        ended = perf_counter()
        total = sum(len(window.samples_N) for window in spoken)
        for number, window, segment in zip(loud, spoken, segments, strict=True):
            share = len(window.samples_N) / total
            times = Timings(0.0, share * (encoded - started), share * (ended - encoded))
            made[number] = segment, times
        return made

    def cleared(self, windows: Sequence[Window], prompt: Asked = None) -> Sequence[Window]:
        """Take the hum out of windows that are transcribed. Windows that something else is asked
        about, and whole clips, stay as they are.
        """
        config = self.model.config.prompt
        if config.long_audio != "error":
            return windows
        if prompt is None or isinstance(prompt, str):
            prompt = [transcription_turns(config, prompt)] * len(windows)
        own = transcription_turns(config)
        asked = zip(windows, prompt, strict=True)
        return [without_hum(window) if turns == own else window for window, turns in asked]

    def write(self, windows: Sequence[Window], prompt: Asked = None) -> list[Written]:
        """Turn samples into tokens, one batch of prompts."""
        return self.write_prompts(windows, *self.encode(windows, prompt))

    @torch.inference_mode()
    def encode(self, windows: Sequence[Window], prompt: Asked = None) -> tuple[Tensor, Tensor]:
        """Turn samples into prompt embeddings (B, L, D) and their mask (B, L)."""
        clips = [window.samples_N for window in windows]
        if prompt is None or isinstance(prompt, str):
            prompt = [transcription_turns(self.model.config.prompt, prompt)] * len(clips)
        for turns, clip in zip(prompt, clips, strict=True):
            self.room.check(turns, [len(clip)])
        return prepare(self.model, prompt, [[clip] for clip in clips])

    def write_prompts(
        self,
        windows: Sequence[Window],
        embeds_BLD: Tensor,
        mask_BL: Tensor,
        request: Request = PLAIN,
    ) -> list[Written]:
        """Turn prompt embeddings into tokens, as many as each window has room for."""
        rooms = (self.room.num_positions - mask_BL.sum(-1)).tolist()
        usual = [token_limit(len(window.samples_N) / SAMPLE_RATE) for window in windows]
        limits = list(map(min, usual, rooms))
        stops = self.processor.stop_ids()
        asked = (self.model, embeds_BLD, mask_BL, stops, limits)
        how = self.decoding(request)
        if how.beams > 1:
            if not how.ctc_weight:
                return search(*asked, how.beams)
            read = [judge(self.heads, w.samples_N, how.ctc_weight) for w in windows]
            judges, proposed = zip(*read, strict=True)
            found = search(*asked, how.beams, judges, proposed=proposed)
            return [
                replace(w, support=support_of(j, w.tokens, how.ctc_weight))
                for w, j in zip(found, judges, strict=True)
            ]
        return write(*asked, self._bias(request))

    @cached_property
    def heads(self) -> list[Head]:
        """Return the CTC heads that judge texts: the character head, and the token head where the
        model has one. Loaded when first needed; raises `CheckpointError` where there is neither.
        """
        named, checkpoint = self._head
        tokens = load_token_head(self.model, checkpoint)
        aligner = self.aligner if named or tokens is None else self._aligner_if_any
        found = [] if tokens is None else [of_tokens(tokens, self.model)]
        return found if aligner is None else [*found, of_characters(aligner)]

    def _bias(self, request: Request) -> Bias | None:
        return Hotwords(request.hotwords, self.model.tokenizer) if request.hotwords else None

    def segment(self, window: Window, written: Written, request: Request = AS_WRITTEN) -> Segment:
        """Return the text of a window, up to where it began to loop, and how it ended."""
        if written.finish_reason == "loop":
            written = before_loop(written)
        text = self.processor.tokenizer.decode(written.tokens, skip_special_tokens=True).strip()
        outcome = OUTCOMES[written.finish_reason]
        mean = sum(written.logprobs) / len(written.logprobs) if written.logprobs else None
        doubted = is_doubted(mean, written.support, self.decoding(request).min_logprob)
        withheld = ""
        if outcome == "ok" and (not text or doubted):
            outcome, text, withheld = "no_speech", "", text
        start_s, end_s = _span(window)
        words = self._words(window, text, written, request)
        return Segment(start_s, end_s, text, outcome, mean, words, withheld)

    def _words(
        self, window: Window, text: str, written: Written, request: Request
    ) -> tuple[Word, ...]:
        if request.timestamps == "word" and text:
            offset_s = window.start / SAMPLE_RATE
            return self.aligner.words(window.samples_N, text, offset_s, written)
        sure = confidences(text, written, self.model.tokenizer)
        return tuple(Word(w, None, None, s) for w, s in zip(text.split(), sure, strict=True))


def silence(window: Window) -> Segment:
    """Return the segment of a window that is silent."""
    return Segment(*_span(window), "", "no_speech", None)


def _span(window: Window) -> tuple[float, float]:
    end = window.start + len(window.samples_N)
    return window.start / SAMPLE_RATE, end / SAMPLE_RATE
