"""transformers' speech pipeline on our models: its inputs, its options, the shape of its answers.

What the documentation of `AutomaticSpeechRecognitionPipeline` promises holds here, or is refused by
the option's name. Texts are written by transformers' own `generate`; audio of any length is cut,
joined and given times as everywhere in this library (`transcriber.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Pipeline

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import AudioError, CheckpointError, ConfigError, Reason
from tiny_audio.model.generation import Written, token_limit
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.processing import AudioProcessor

from .jobs import Failed, Job, finished
from .longform import Window
from .request import AS_WRITTEN, KEEP_ALL, Request, Timestamps
from .results import Transcript, Word
from .transcriber import Transcriber

REFUSED = {
    "decoder_kwargs": "there is no decoder with an n-gram model",
    "return_language": "a language is not detected",
    "assistant_model": "speculative decoding is not supported",
    "stride": "an input has no strides of its own; use stride_length_s",
}
LIMITS = {"max_new_tokens", "max_length", "max_time", "generation_config"}
TIMES = (None, False, True, "word")


class AudioLMPipeline(Pipeline):
    """The speech pipeline for our models: any audio source in, `{"text": …}` out."""

    processor: Any
    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _pipeline_calls_generate = True
    _generate_kwargs: dict[str, Any] = {}  # noqa: RUF012 — set by Pipeline, from what it is made with

    def __init__(self, model: AudioLM, **options: Any):
        super().__init__(model, **options)
        if self.processor is None:  # the model came from no folder
            self.processor = AudioProcessor(model.tokenizer, model.config)

    def _sanitize_parameters(
        self,
        prompt: str | None = None,
        sampling_rate: int | None = None,
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        return_timestamps: bool | str | None = None,
        generate_kwargs: dict[str, Any] | None = None,
        ignore_warning: bool | None = None,  # of transformers, about chunks: there is none here
        **generate: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        assistant = {"assistant_model": getattr(self, "assistant_model", None)}
        for name, value in {**generate, **(generate_kwargs or {}), **assistant}.items():
            if name in REFUSED and value is not None:
                raise ConfigError(f"{name}: {REFUSED[name]}. Leave it out.")
        if return_timestamps not in TIMES:
            raise ConfigError(f'return_timestamps={return_timestamps!r}: use True or "word".')
        if stride_length_s is not None and not (
            chunk_length_s or self._forward_params_or({}).get("chunk_length_s")
        ):
            raise ConfigError("stride_length_s works only with chunk_length_s; give both.")
        generate = {**(generate_kwargs or {}), **generate}
        forward = {
            "prompt": prompt,
            "chunk_length_s": chunk_length_s,
            "stride_length_s": stride_length_s,
            "return_timestamps": return_timestamps,
        }
        # Only what was given: options of a call go over those that the pipeline was made with.
        read = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
        forward = {key: value for key, value in forward.items() if value is not None}
        after = {"return_timestamps": return_timestamps} if return_timestamps is not None else {}
        return read, {**forward, **({"generate": generate} if generate else {})}, after

    def _forward_params_or(self, default: dict[str, Any]) -> dict[str, Any]:
        """Return the options that the pipeline was made with, none while it is made."""
        return getattr(self, "_forward_params", default)

    def __call__(self, inputs: Any, *args: Any, **options: Any) -> Any:
        """Answer one source, a list, a data set or a generator of them."""
        if isinstance(inputs, list) and not inputs:
            return []
        if _is_column(inputs):  # an audio column of a data set: a sequence that is no list
            inputs = list(inputs)
        return super().__call__(inputs, *args, **options)

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """Yield answers in order; windows of neighbouring sources share batches of `batch_size`."""
        extras: deque[dict[str, Any]] = deque()

        def sources() -> Iterator[Tensor]:
            for source in inputs:
                read = self.preprocess(source, **preprocess_params)
                extras.append(read["extra"])
                yield read["samples"]

        with torch.inference_mode():
            for made in self._transcripts(sources(), batch_size, **forward_params):
                answer = {"transcript": made, "extra": extras.popleft()}
                yield self.postprocess(answer, **postprocess_params)

    def run_single(
        self,
        inputs: Any,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> dict[str, Any]:
        """Answer one source."""
        one = self.get_iterator(
            [inputs], 0, 1, preprocess_params, forward_params, postprocess_params
        )
        return next(one)

    def preprocess(self, source: Any, sampling_rate: int | None = None) -> dict[str, Any]:
        """Return samples at 16 kHz, and what else came with them."""
        extra: dict[str, Any] = {}
        if hasattr(source, "get_all_samples"):  # the AudioDecoder of data sets
            decoded = source.get_all_samples()
            source, sampling_rate = decoded.data.mean(0), int(decoded.sample_rate)
        elif isinstance(source, dict):
            source, sampling_rate, extra = _of_dict(dict(source))
        elif sampling_rate is None and hasattr(source, "shape"):
            sampling_rate = SAMPLE_RATE  # as documented: an array alone has the model's rate
        return {"samples": self.processor.samples(source, sampling_rate), "extra": extra}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return one source's transcript, for those who call the steps by themselves."""
        (made,) = self._transcripts([inputs["samples"]], 1, **options)
        return {"transcript": made, "extra": inputs["extra"]}

    def postprocess(
        self, outputs: Any, return_timestamps: bool | str | None = None
    ) -> dict[str, Any]:
        """Return the text, pieces with times where they were asked for, and what came along."""
        made: Transcript = outputs["transcript"]
        answer: dict[str, Any] = {"text": made.text}
        if return_timestamps == "word":
            found = [(word.text, word.start_s, word.end_s) for word in made.words]
        elif return_timestamps:
            found = [(part.text, part.start_s, part.end_s) for part in made.segments if part.text]
        if return_timestamps:
            answer["chunks"] = [
                {"text": f"{' ' if number else ''}{text}", "timestamp": (start_s, end_s)}
                for number, (text, start_s, end_s) in enumerate(found)
            ]
        return {**answer, **{key: [value] for key, value in outputs["extra"].items()}}

    def _transcripts(
        self,
        sources: Iterable[Tensor],
        batch_size: int,
        prompt: str | None = None,
        chunk_length_s: float | None = None,
        stride_length_s: float | Sequence[float] | None = None,
        return_timestamps: bool | str | None = None,
        generate: dict[str, Any] | None = None,
    ) -> Iterator[Transcript]:
        settings = {**self._generate_kwargs, **(generate or {})}
        writer = GeneratingTranscriber(self.model, settings)
        chunks = _chunks(chunk_length_s, stride_length_s, writer.policy.longest_s)
        times: Timestamps = "word" if return_timestamps == "word" else "segment"
        request = Request(prompt, timestamps=times, min_logprob=KEEP_ALL)
        try:
            writer.check(request)
        except CheckpointError as error:
            raise CheckpointError(f"return_timestamps='word': {error}") from error
        yield from writer.in_batches(sources, batch_size, request, chunks)


class GeneratingTranscriber(Transcriber):
    """A transcriber whose tokens are written by transformers' `generate`, with its options."""

    def __init__(self, model: AudioLM, settings: dict[str, Any]):
        folder = model.config.name_or_path  # may hold a CTC head for the times of words
        super().__init__(model, checkpoint=Path(folder) if folder else None)
        self.settings = settings

    def in_batches(
        self,
        sources: Iterable[Tensor],
        batch_size: int,
        request: Request,
        chunks: tuple[int, int] | None,
    ) -> Iterator[Transcript]:
        """Yield a transcript for every clip of samples, `batch_size` windows at a time."""
        jobs, pool = deque[Job](), list[tuple[Job, Window]]()
        timed = None if request.timestamps == "word" else self.timed
        for samples_N in sources:
            jobs.append(job := Job("audio", timed=timed))
            windows = self.windows(samples_N, SAMPLE_RATE, job.notes)
            for window in job.read(windows if chunks is None else _cut(samples_N, *chunks)):
                pool.append((job, window))
                if len(pool) == max(1, batch_size):
                    self._write_pool(pool, request, None)
                    yield from _whole(finished(jobs))
        self._write_pool(pool, request, None)
        yield from _whole(finished(jobs))

    def write_prompts(
        self,
        windows: Sequence[Window],
        embeds_BLD: Tensor,
        mask_BL: Tensor,
        request: Request = AS_WRITTEN,
    ) -> list[Written]:
        """Turn prompt embeddings into tokens; a window that is shorter than others ends at its own
        limit, as it would alone.
        """
        usual = [token_limit(len(window.samples_N) / SAMPLE_RATE) for window in windows]
        limited = LIMITS & set(self.settings)
        settings: dict[str, Any] = {} if limited else {"max_new_tokens": max(usual)}
        if "generation_config" not in self.settings:
            settings["do_sample"] = False
            settings["num_beams"] = self.decoding(request).beams
        settings["eos_token_id"] = self.processor.stop_ids()
        settings["pad_token_id"] = self.processor.pad_id
        settings |= self.settings
        ids = self.model.generate(inputs_embeds=embeds_BLD, attention_mask=mask_BL, **settings)
        rows = getattr(ids, "sequences", ids).tolist()
        several = len(rows) // len(windows)  # num_return_sequences: the first is the answer
        limits = [len(rows[0])] * len(windows) if limited else usual
        return [
            self._written(row, limit) for row, limit in zip(rows[::several], limits, strict=True)
        ]

    def _words(
        self, window: Window, text: str, written: Written, request: Request
    ) -> tuple[Word, ...]:
        """Return words without confidences: `generate` gives no probabilities."""
        if request.timestamps == "word" and text:
            return self.aligner.words(window.samples_N, text, window.start / SAMPLE_RATE)
        return tuple(Word(word, None, None, None) for word in text.split())

    def _written(self, row: list[int], limit: int) -> Written:
        """Keep the tokens before the first stop."""
        stops = set(self.processor.stop_ids())
        end = next((at for at, token in enumerate(row) if token in stops), None)
        tokens = row[:limit] if end is None or end > limit else row[:end]
        return Written(tokens, [], "length" if end is None or end > limit else "stop")


def _of_dict(source: dict[str, Any]) -> tuple[Any, int, dict[str, Any]]:
    """Return samples, rate and the rest of {"raw" or "array", "sampling_rate", …}."""
    if source.get("stride") is not None:
        raise ConfigError(f"stride: {REFUSED['stride']}. Leave it out.")
    source.pop("stride", None)
    source.pop("path", None)
    kind = "raw" if source.get("raw") is not None else "array"
    if source.get(kind) is None or source.get("sampling_rate") is None:
        raise AudioError(
            f'A dictionary of audio needs "raw" (or "array") and "sampling_rate"; this one has '
            f"{', '.join(sorted(source)) or 'nothing'}.",
            Reason.ARGUMENT,
        )
    samples, rate = source.pop(kind), source.pop("sampling_rate")
    source.pop("raw", None), source.pop("array", None)
    return samples, int(rate), source


def _is_column(inputs: Any) -> bool:
    """Say whether this is the `Column` of a data set of the Hub's library."""
    return type(inputs).__module__.startswith("datasets.") and hasattr(inputs, "__len__")


def _whole(made: Iterable[Transcript | Failed]) -> Iterator[Transcript]:
    for one in made:
        if isinstance(one, Failed):
            raise one.error
        yield one


def _chunks(
    length_s: float | None, stride_s: float | Sequence[float] | None, longest_s: float
) -> tuple[int, int] | None:
    """Return how many samples a chunk has, and how many of them the one before has too; None where
    audio is cut in pauses.
    """
    if not length_s:
        return None
    stride = length_s / 6 if stride_s is None else stride_s
    left_s, right_s = (stride, stride) if isinstance(stride, (int, float)) else stride
    if length_s > longest_s:
        raise ConfigError(
            f"chunk_length_s={length_s:g}: this model's encoder takes {longest_s:g} s at most."
        )
    if min(left_s, right_s) < 0 or left_s + right_s >= length_s:
        raise ConfigError(
            f"stride_length_s={stride_s}: both sides together must be shorter than "
            f"chunk_length_s={length_s:g}."
        )
    return round(length_s * SAMPLE_RATE), round((left_s + right_s) * SAMPLE_RATE)


def _cut(samples_N: Tensor, length: int, overlap: int) -> Iterator[Window]:
    """Cut chunks of one length that overlap."""
    for start in range(0, max(1, len(samples_N) - overlap), length - overlap):
        yield Window(start, samples_N[start : start + length], overlap if start else 0)
