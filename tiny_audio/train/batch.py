"""A micro-batch: clips (or their cached frames) with prompts, labels and padding.

One collator for all of training; prompts come from the same renderer as everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tiny_audio.data.augment import Augment, augment
from tiny_audio.data.examples import Dropped, Example
from tiny_audio.data.mixture import Visit, padding
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import AudioError, Reason
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import Prompts, lay_out
from tiny_audio.model.prompt import Turn, transcription_turns
from tiny_audio.train.frames import FrameCache, clip_key

MIN_SAMPLES = 1600  # 0.1 s: less is left of no clip after augmentation


@dataclass(frozen=True)
class Batch(Prompts):
    """Right-padded prompts with the answers that a decoder is to learn."""

    where: tuple[str, ...]
    audio_s: float
    padding: float
    counts: bool = True

    def idle(self) -> Batch:
        """Return a batch that computes the same but has no weight in the loss."""
        return replace(self, counts=False, audio_s=0.0, padding=0.0)


Copies = Mapping[str, int]  # source → cached versions of each of its clips


def parts_of(visit: Visit) -> list[Visit]:
    """Return a visit of every clip of a visit."""
    return [visit._replace(example=part) for part in visit.example.parts()]


def copy_of(visit: Visit, how: Augment | None, copies: Copies) -> int:
    """Return which cached copy a visit uses: they take turns, and 0 is the clip as recorded."""
    return visit.repeat % copies.get(visit.example.source, 1) if how is not None else 0


def cached_key(visit: Visit, how: Augment | None, copies: Copies) -> str:
    """Return the key under which a visit finds its frames."""
    copy = copy_of(visit, how, copies)
    return clip_key(visit.example.sound, how if copy else None, copy)


@dataclass(frozen=True)
class Collator:
    """Makes batches of visits. With `cache` it reads frames there, of a visit's next copy.

    Clips whose samples turn out to be unusable are left out and counted in `dropped`.
    """

    model: AudioLM
    augment: Augment | None = None
    cache: FrameCache | None = None
    copies: Copies = field(default_factory=dict)
    frame_dropout: float = 0.0
    frame_stretch: float = 0.0
    few_shapes: bool = False  # in bfloat16 oneDNN compiles kernels for every new shape
    dropped: Dropped = field(default_factory=Dropped)

    def __call__(self, visits: Sequence[Visit]) -> Batch | None:
        """Make a batch; None when no clip of these can be used."""
        audio, kept = [], []
        for visit in visits:
            try:
                audio.append([self.audio_of(part) for part in parts_of(visit)])
                kept.append(visit)
            except AudioError as error:
                self.dropped.add(error.reason, visit.example.where)
        return self.collate(audio, kept) if kept else None

    def audio_of(self, visit: Visit) -> Tensor:
        """Return frames (T, E) from the cache, or samples (N,)."""
        if self.cache is None:
            most = self.model.config.encoder.max_samples
            return torch.from_numpy(played(visit, self.augment, most))
        key = cached_key(visit, self.augment, self.copies)
        frames_TE = stretched(self.cache[key], self.frame_stretch, visit.seed)
        return thinned(frames_TE, self.frame_dropout, visit.seed)

    def collate(self, audio: Sequence[Tensor | Sequence[Tensor]], visits: Sequence[Visit]) -> Batch:
        """Make a batch of samples or frames, with prompts and answers. A visit's audio is that of
        its clip, or a list with that of each of its clips.
        """
        clips = [[one] if isinstance(one, Tensor) else list(one) for one in audio]
        turns, model = [self.answered(visit) for visit in visits], self.model
        made = lay_out(turns, clips, model.tokenizer, model.config, "right", self.few_shapes)
        return Batch(
            **vars(made),
            where=tuple(v.example.where for v in visits),
            audio_s=sum(v.example.duration_s for v in visits),
            padding=padding(made.mask_BL.sum(-1).tolist()),
        )

    def answered(self, visit: Visit) -> list[Turn]:
        """Return the turns of a visit, with the right answer."""
        return [*self.asked(visit), Turn("assistant", visit.example.text)]

    def asked(self, visit: Visit) -> list[Turn]:
        example = visit.example
        num_clips = 1 + len(example.more)
        return transcription_turns(self.model.config.prompt, example.prompt, num_clips)


def played(visit: Visit, how: Augment | None, most: int | None = None) -> np.ndarray:
    """Return the float32 samples of a visit, augmented by its seed."""
    return changed(recorded(visit.example, most), visit.seed, how, most)


def recorded(example: Example, most: int | None) -> np.ndarray:
    """Return float32 samples; raise `AudioError` where they are more than `most`, the encoder's
    window: the clip is longer than its header said.
    """
    samples = example.sound.samples()
    if most is not None and len(samples) > most:
        long_s, most_s = math.ceil(len(samples) / SAMPLE_RATE), most / SAMPLE_RATE
        problem = f"{long_s:,} s long and the limit of the encoder is {most_s:g} s."
        raise AudioError(f"{example.where}: {problem}", Reason.TOO_LONG)
    return samples


def changed(samples: np.ndarray, seed: int, how: Augment | None, most: int | None) -> np.ndarray:
    """Augment samples, unless that leaves too few of them or more than `most`."""
    if how is None:
        return samples
    made = augment(samples, np.random.default_rng(seed), how)
    fits = len(made) >= MIN_SAMPLES and (most is None or len(made) <= most)
    return made if fits else samples


def stretched(frames_TE: Tensor, most: float, seed: int) -> Tensor:
    """Interpolate between frames at another tempo, up to 1 + `most` times as slow or fast."""
    if not most:
        return frames_TE
    factor = (1 + most) ** np.random.default_rng([seed, 1]).uniform(-1, 1)
    rows_1ET = frames_TE.float().T[None]
    length = max(1, round(len(frames_TE) * factor))
    return torch.nn.functional.interpolate(rows_1ET, length, mode="linear")[0].T


def thinned(frames_TE: Tensor, share: float, seed: int) -> Tensor:
    """Leave out a random share of frames, and up to three at the start: the clip is cut into other
    positions, and has another tempo, each time it is used.
    """
    if not share:
        return frames_TE
    rng = np.random.default_rng(seed)
    kept = rng.random(len(frames_TE)) >= share
    kept[: rng.integers(0, 4)] = False
    return frames_TE[torch.from_numpy(kept)] if kept.any() else frames_TE
