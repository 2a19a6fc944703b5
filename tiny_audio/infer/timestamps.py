"""Finding word times: a CTC head aligns a text with the frames of its sound.

The language model writes the text and knows no time; the head knows which frame sounds like which
character. The best path through both gives every word its frames. A word that the head cannot spell
("12", another script) gets no times: they are never invented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tiny_audio.infer.ctc_head import (
    CONFIG,
    CtcHead,
    encode_characters,
    encoder_id,
    read_config,
    spell,
    unpooled,
)
from tiny_audio.infer.results import Word
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.encoder import AudioEncoder, EncoderConfig
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.generation import Written
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import SHIPPED

ANYTHING = -1  # a label that fits every frame: what stands for a word that cannot be spelled
# A head writes a word's first character 49 ms after the word began (median of
# 227 words, docs/decisions/017); its last one when the word ends (1 ms).
LATE_S = 0.05
SPACE = encode_characters(" ")[0]


def load_aligner(
    model: AudioLM, folder: Path | None = None, checkpoint: Path | None = None
) -> Aligner:
    """Load the aligner of a model: with the CTC head in `folder`, else in `ctc/` of the checkpoint
    that the model was loaded from, else in the package for the encoder of one of its models.

    `CheckpointError` when there is none, or when it belongs to another encoder.
    """
    encoder = unpooled(model.audio_tower)
    if folder is None and checkpoint is not None and (checkpoint / "ctc" / CONFIG).is_file():
        folder = checkpoint / "ctc"
    if folder is None:
        folder = shipped_head(encoder_id(encoder))
    if folder is None:
        raise CheckpointError(
            "Word times and --ctc-weight need a CTC head for this model's encoder, and there is "
            "none. Train one in minutes: tiny-audio train-head MODEL --data MANIFEST --out "
            "FOLDER, and name it with --aligner FOLDER, or put it into the checkpoint as ctc/. "
            "Texts alone need none: --ctc-weight 0."
        )
    return Aligner(model, encoder, CtcHead.from_pretrained(folder, encoder))


def shipped_head(encoder: str) -> Path | None:
    """Return the package's own CTC head for the encoder of this identity, if it holds one."""
    heads = [folder / "ctc" for folder in SHIPPED.values() if (folder / "ctc" / CONFIG).is_file()]
    return next((head for head in heads if read_config(head).encoder == encoder), None)


@dataclass(frozen=True)
class Aligner:
    """A model's encoder (all of its frames) with its CTC head."""

    model: AudioLM
    encoder: AudioEncoder
    head: CtcHead

    @torch.inference_mode()
    def words(
        self, samples_N: Tensor, text: str, offset_s: float = 0.0, written: Written | None = None
    ) -> tuple[Word, ...]:
        """Return the words of a segment with times in the file. With `written`, which must begin
        with the words of `text`, they have confidences too.
        """
        sure = confidences(text, written, self.model.tokenizer) if written else None
        rate = frame_s(self.encoder.config)
        frames_TE = self.frames(samples_N)
        return align_words(
            self.head, frames_TE, text, frame_s=rate, offset_s=offset_s, confidences=sure
        )

    @torch.inference_mode()
    def log_probs(self, samples_N: Tensor) -> Tensor:
        """Return the head's log-probabilities of every frame, (T, characters + 1)."""
        return read_frames(self.head, self.frames(samples_N))

    def frames(self, samples_N: Tensor) -> Tensor:
        """Return frames (T, E); a clip longer than the window is encoded window by window."""
        longest = self.encoder.config.max_samples or len(samples_N)
        device = next(self.encoder.parameters()).device
        windows = [
            self.encoder(self.encoder.features([window.to(device)]))[0][0]
            for window in samples_N.split(longest)
        ]
        return torch.cat(windows)


def frame_s(config: EncoderConfig) -> float:
    """Return the seconds from one frame to the next."""
    size, keep = config.pool
    return config.stride * size / keep / SAMPLE_RATE


def align_words(
    head: CtcHead,
    frames_TE: Tensor,
    text: str,
    *,
    frame_s: float,
    offset_s: float = 0.0,
    confidences: Sequence[float | None] | None = None,
) -> tuple[Word, ...]:
    """Return the words of `text` with the times at which the frames hold them, in order, without
    overlap, and within the frames. `confidences` are those of the words, where they are known.
    """
    words = text.split()
    log_probs_TC = read_frames(head, frames_TE).detach().cpu().numpy()
    spans = word_spans(log_probs_TC, [spell(word) for word in words])
    listed, end_s = list[Word](), 0.0
    for word, span, sure in zip(words, spans, confidences or [None] * len(words), strict=True):
        if span is None:
            listed.append(Word(word, None, None, sure))
            continue
        start_s = max(end_s, span.first * frame_s - LATE_S)
        end_s = span.after * frame_s
        listed.append(Word(word, offset_s + start_s, offset_s + end_s, sure))
    return tuple(listed)


def read_frames(head: CtcHead, frames_TE: Tensor) -> Tensor:
    """Return log-probabilities (T, characters + 1) of one clip."""
    lengths_B = torch.tensor([len(frames_TE)], device=frames_TE.device)
    return head(frames_TE[None], lengths_B)[0]


# Alignment ------------------------------------------------------------------------------------


class Span(NamedTuple):
    """The frames from `first` up to `after`."""

    first: int
    after: int


def word_spans(log_probs_TC: np.ndarray, spellings: Sequence[str]) -> list[Span | None]:
    """Return the frames of every word, first to last character; None where a word has no spelling,
    and for all of them where the text has more characters than there are frames.
    """
    labels, owners = labels_of(spellings)
    path = best_path(log_probs_TC, labels)
    spans: list[Span | None] = [None] * len(spellings)
    if path is None:
        return spans
    owner_of_state = np.full(2 * len(labels) + 1, -1)  # blanks belong to nobody
    owner_of_state[1::2] = owners
    owner_T = owner_of_state[path]
    for number, spelling in enumerate(spellings):
        if spelling:
            frames = np.flatnonzero(owner_T == number)
            spans[number] = Span(int(frames[0]), int(frames[-1]) + 1)
    return spans


def labels_of(spellings: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the words' characters with spaces between, and the word of each (-1: none)."""
    labels, owners = list[int](), list[int]()
    for number, spelling in enumerate(spellings):
        made = encode_characters(spelling) or [ANYTHING]
        space = [SPACE] if number else []
        labels += space + made
        owners += [-1] * len(space) + [number] * len(made)
    return labels, owners


def best_path(log_probs_TC: np.ndarray, labels: Sequence[int]) -> np.ndarray | None:
    """Return the most likely CTC path (T,) through all labels: state 2·i + 1 is label i, even ones
    are the blanks around it. None when there are too few frames for it.

    Viterbi: from one frame to the next a path stays, goes to the next state, or leaves out a blank
    between two labels that differ.
    """
    num_frames, states = len(log_probs_TC), np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    likely_TS = log_probs_TC[:, np.maximum(states, 0)]
    likely_TS[:, states == ANYTHING] = log_probs_TC.max(1, keepdims=True)
    may_skip = np.zeros(len(states), bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    came_TS = np.zeros((num_frames, len(states)), np.int8)  # by how many states it went on
    score_S = np.full(len(states), -np.inf)
    score_S[:2] = likely_TS[0, :2]
    options = np.full((3, len(states)), -np.inf)
    for t in range(1, num_frames):
        options[0] = score_S
        options[1, 1:] = score_S[:-1]
        options[2, 2:] = np.where(may_skip[2:], score_S[:-2], -np.inf)
        came_TS[t] = options.argmax(0)
        score_S = options.max(0) + likely_TS[t]
    ends = range(max(0, len(states) - 2), len(states))
    state = max(ends, key=lambda s: score_S[s])
    return follow(came_TS, state) if np.isfinite(score_S[state]) else None


def follow(came_TS: np.ndarray, state: int) -> np.ndarray:
    """Return the path that ends in `state`, from its last frame back to its first."""
    path = np.empty(len(came_TS), int)
    for t in range(len(came_TS) - 1, -1, -1):
        path[t] = state
        state -= int(came_TS[t, state])  # numpy would keep it an int8
    return path


# Confidence -----------------------------------------------------------------------------------


def confidences(text: str, written: Written, tokenizer: Any) -> list[float | None]:
    """Return the confidence of every word: the geometric mean of its tokens' probabilities, 0…1.

    A token belongs to the words that it adds characters to; a space alone belongs to none. `text`
    holds the words that the tokens spell, or the first of them; else it is a `ValueError`.
    """
    words, logprobs = text.split(), list[list[float]]()
    before, spelled = "", list[str]()
    for count, (token, logprob) in enumerate(zip(written.tokens, written.logprobs, strict=True), 1):
        if token in tokenizer.all_special_ids:
            continue
        text_so_far = tokenizer.decode(written.tokens[:count], skip_special_tokens=True)
        now = text_so_far.split()
        # A byte of a character that is not whole yet changes nothing that can be seen.
        kept = len(now) - 1 if text_so_far == before else sum(map(str.__eq__, now, spelled))
        logprobs += [[] for _ in now[len(logprobs) :]]
        for of in logprobs[max(kept, 0) :]:
            of.append(logprob)
        before, spelled = text_so_far, now
    if spelled[: len(words)] != words:
        raise ValueError(f"The tokens spell {' '.join(spelled)!r}, which is not {text!r}.")
    return [math.exp(sum(of) / len(of)) if of else None for of in logprobs[: len(words)]]
