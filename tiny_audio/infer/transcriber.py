"""Whole files to text: cut into windows at quiet places, transcribe windows in batches, join.

Memory does not grow with the file: it is decoded as a stream, and a window is forgotten once
written.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_audio.model.audio import SAMPLE_RATE, load_audio, source_name, stream_audio
from tiny_audio.model.generation import Written, token_limit, write
from tiny_audio.model.modeling import AudioLM, as_features
from tiny_audio.model.processing import AudioProcessor
from tiny_audio.model.prompt import Turn
from tiny_audio.presets import load

from .hearing import embed_by_length
from .results import Outcome, Segment, Transcript

# Windows of one file that are decoded together.
BATCH_WINDOWS = 8
# Encoders without a limit of their own (HuBERT) still get windows of this length.
DEFAULT_WINDOW_S = 30.0
# A window is cut at the quietest 300 ms of its last 40 %: a stop is silent too, but shorter.
QUIET_SAMPLES = SAMPLE_RATE * 3 // 10
SEARCH_SHARE = 0.4
Asked = str | list[list[Turn]] | None  # of all windows, or the turns of each
OUTCOMES: dict[str, Outcome] = {"stop": "ok", "length": "cut_off", "loop": "loop"}


class Window(NamedTuple):
    """Consecutive samples of a file and where they begin."""

    start: int
    samples_N: Tensor


class Transcriber:
    """A model, ready to turn audio into text.

    ```python
    Transcriber.from_pretrained("nano").transcribe("speech.flac").text
    ```
    """

    def __init__(self, model: AudioLM):
        self.model = model.eval()
        self.processor = AudioProcessor(model.tokenizer, model.config)

    @classmethod
    def from_pretrained(cls, source: str | Path = "nano", **options: Any) -> "Transcriber":
        """Load "nano", a checkpoint folder or a Hub id; options as in `tiny_audio.load`."""
        return cls(load(source, **options))

    def transcribe(
        self,
        source: Any,
        *,
        prompt: str | None = None,
        sampling_rate: int | None = None,
        channel: int | None = None,
        allow_truncated: bool = False,
    ) -> Transcript:
        """Text of any audio source of any length: path, bytes, array or tensor (with its rate).

        `prompt` replaces the instruction that the model was trained with; the other options are
        those of `load_audio`. Raises `AudioError`.
        """
        notes: list[str] = []
        options = {"channel": channel, "allow_truncated": allow_truncated}
        windows = self.windows(source, sampling_rate, notes, **options)
        segments: list[Segment] = []
        while batch := list(islice(windows, BATCH_WINDOWS)):
            segments += self.transcribe_windows(batch, prompt)
        return Transcript(source_name(source), segments[-1].end_s, tuple(segments), tuple(notes))

    def windows(
        self, source: Any, sampling_rate: int | None, notes: list[str], **options: Any
    ) -> Iterator[Window]:
        """Consecutive windows that the encoder takes, covering every sample; `notes` are added."""
        if self.model.config.prompt.long_audio == "windows":  # one prompt hears the whole clip
            audio = load_audio(source, sampling_rate, **options)
            notes += audio.notes
            return iter([Window(0, audio.samples)])
        longest = self.model.config.encoder.max_samples or int(DEFAULT_WINDOW_S * SAMPLE_RATE)
        return cut(stream_audio(source, sampling_rate, notes=notes, **options), longest)

    def transcribe_windows(self, windows: list[Window], prompt: Asked = None) -> list[Segment]:
        """Windows, decoded together, to their texts."""
        return list(map(self._segment, windows, self.write(windows, prompt)))

    @torch.inference_mode()
    def write(self, windows: list[Window], prompt: Asked = None) -> list[Written]:
        """Samples to tokens, one batch of prompts."""
        model = self.model
        clips = [window.samples_N for window in windows]
        batch = self.processor(audio=clips, text=prompt, sampling_rate=SAMPLE_RATE).to(model.device)
        ids, mask = batch.pop("input_ids"), batch.pop("attention_mask")
        heard = as_features(*(batch.get(name) for name in FEATURE_KEYS))
        assert heard is not None, "a window without samples"
        audio = embed_by_length(model, heard)
        embeds_BLD = model.fuse(ids, audio.audio_BPD, audio.lengths_B)
        limits = [token_limit(len(clip) / SAMPLE_RATE) for clip in clips]
        return write(model, embeds_BLD, mask, self.processor.stop_ids(), limits)

    def _segment(self, window: Window, written: Written) -> Segment:
        text = self.processor.tokenizer.decode(written.tokens, skip_special_tokens=True).strip()
        outcome = OUTCOMES[written.finish_reason]
        if outcome == "ok" and not text:
            outcome = "no_speech"
        mean = sum(written.logprobs) / len(written.logprobs) if written.logprobs else None
        end = window.start + len(window.samples_N)
        return Segment(window.start / SAMPLE_RATE, end / SAMPLE_RATE, text, outcome, mean)


FEATURE_KEYS = ("input_features", "input_features_mask", "input_values", "input_values_mask")


def cut(blocks: Iterable[Tensor], longest: int) -> Iterator[Window]:
    """Blocks of samples → windows of at most `longest` samples, cut where it is quiet."""
    start, held = 0, torch.empty(0)
    for block in blocks:
        held = torch.cat([held, block])
        while len(held) > longest:
            end = quiet_place(held, longest)
            yield Window(start, held[:end])
            start, held = start + end, held[end:]
    if len(held):
        yield Window(start, held)


def quiet_place(samples_N: Tensor, longest: int) -> int:
    """Where to cut: the middle of the quietest 300 ms in the last part of the window."""
    first = int(longest * (1 - SEARCH_SHARE))
    searched = samples_N[first:longest]
    if len(searched) < 2 * QUIET_SAMPLES:
        return longest
    energy = searched.square().unfold(0, QUIET_SAMPLES, QUIET_SAMPLES // 4).mean(-1)
    return first + int(energy.argmin()) * (QUIET_SAMPLES // 4) + QUIET_SAMPLES // 2
