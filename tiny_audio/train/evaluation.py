"""How well a model listens while it trains: token accuracy, word error rate, ablation gap.

The same answers are scored after the clip itself, after another clip and after silence. A model
that listens is worse off with the wrong sound; one that only knows the language is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_audio.data.examples import Example
from tiny_audio.data.mixture import DataConfig, Visit, cut
from tiny_audio.data.sounds import why
from tiny_audio.data.text import clean
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import AudioError, ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.processing import pad_prompts
from tiny_audio.model.prompt import render
from tiny_audio.train.batch import Collator, played
from tiny_audio.train.frames import pad_frames
from tiny_audio.train.loop import Losses
from tiny_audio.train.scores import word_errors
from tiny_audio.train.task import Listening

SHOWN = 8  # texts that an evaluation keeps beside what was written
KINDS = ("", "_shuffled", "_silent")
KEPT_BYTES = 2**28  # of frames that a frozen encoder need not make again


class Heard(NamedTuple):
    """A batch of visits, the frames of their clips, and of as much silence."""

    visits: list[Visit]
    own: list[Tensor]
    silent: list[Tensor]


class Evaluation:
    """The validation clips of a run, in batches that stay the same."""

    def __init__(self, model: AudioLM, examples: Sequence[Example], config: DataConfig, seed: int):
        self.model, self.task = model, Listening(model)
        self.collator = Collator(model)
        drawn = list(examples)
        random.Random(f"evaluation/{seed}").shuffle(drawn)
        self.batches: list[tuple[list[Visit], list[Tensor]]] = []
        heard = self._heard(drawn[: config.validation_clips])
        if not heard:
            raise ConfigError(
                f"None of the {len(drawn)} validation clips can be used "
                f"({dict(self.collator.dropped.counts())}); name others with data.validation."
            )
        heard.sort(key=lambda pair: pair[0].example.duration_s)
        self.samples = {id(visit): clip for visit, clip in heard}
        for batch in cut([visit for visit, _ in heard], config, lambda e: 1):
            self.batches.append((batch, [self.samples[id(visit)] for visit in batch]))
        self._kept: dict[int, Heard] = {}
        self._kept_bytes = 0

    def _heard(self, examples: Sequence[Example]) -> list[tuple[Visit, Tensor]]:
        kept, most = [], self.model.config.encoder.max_samples
        for example in examples:
            visit = Visit(example, 0, 0)
            try:
                kept.append((visit, torch.from_numpy(played(visit, None, most))))
            except AudioError as error:
                self.collator.dropped.add(why(error), example.where)
        return kept

    @torch.no_grad()
    def __call__(self) -> dict[str, Any]:
        """One row of metrics.jsonl."""
        sums = {kind: Losses(torch.zeros(()), 0) for kind in KINDS}
        written: list[Segment] = []
        other = self.frames(self.batches[-1][1])[-1]  # for a clip that is alone in its batch
        for visits, own, silent in self.heard():
            shuffled = own[1:] + own[:1] if len(own) > 1 else [other]
            for kind, heard in zip(KINDS, (own, shuffled, silent), strict=True):
                batch = self.collator.collate(heard, visits).to(self.model.device)
                sums[kind] = Losses(
                    *(a + b for a, b in zip(sums[kind], self.task(batch), strict=True))
                )
            written += self.write(visits, own)
        row: dict[str, Any] = {"kind": "evaluation", "clips": len(written)}
        for kind, (total, count, correct) in sums.items():
            row |= {f"loss{kind}": float(total) / count, f"token_accuracy{kind}": correct / count}
        return row | self.words(written)

    def heard(self) -> Iterator[Heard]:
        """Every batch; what a frozen encoder made of it the first time is kept."""
        frozen = not any(p.requires_grad for p in self.model.audio_tower.parameters())
        for number, (visits, clips) in enumerate(self.batches):
            if number not in self._kept:
                heard = Heard(visits, self.frames(clips), self.frames([c * 0 for c in clips]))
                size = sum(frames.nbytes for frames in heard.own + heard.silent)
                if not frozen or self._kept_bytes + size > KEPT_BYTES:
                    yield heard
                    continue
                self._kept[number], self._kept_bytes = heard, self._kept_bytes + size
            yield self._kept[number]

    def frames(self, clips: Sequence[Tensor]) -> list[Tensor]:
        heard = features(self.model.config.encoder, [c.to(self.model.device) for c in clips])
        frames_BTE, lengths_B = self.model.audio_tower(heard)
        return [f[:n] for f, n in zip(frames_BTE, lengths_B.tolist(), strict=True)]

    def write(self, visits: Sequence[Visit], frames: Sequence[Tensor]) -> list[Segment]:
        """As `transcribe` writes, with each clip's own question, from frames that are there."""
        model, transcriber = self.model, Transcriber(self.model)
        dtype = next(model.projector.parameters()).dtype
        frames_BTE, lengths_B = (tensor.to(model.device) for tensor in pad_frames(frames))
        audio_BPD, positions_B = model.projector(frames_BTE.to(dtype), lengths_B)
        prompts = [
            render(self.collator.asked(visit), [number], model.tokenizer, model.config.prompt)
            for visit, number in zip(visits, positions_B.tolist(), strict=True)
        ]
        rows = pad_prompts(prompts, transcriber.processor.pad_id, "left")
        embeds_BLD = model.fuse(rows["input_ids"].to(model.device), audio_BPD, positions_B)
        mask_BL = rows["attention_mask"].to(model.device)
        windows = [Window(0, self.samples[id(visit)]) for visit in visits]
        written = transcriber.write_prompts(windows, embeds_BLD, mask_BL)
        return list(map(transcriber.segment, windows, written))

    def words(self, written: Sequence[Segment]) -> dict[str, Any]:
        """Word error rate over words without case and punctuation, and how answers ended."""
        texts = [visit.example.text for visits, _ in self.batches for visit in visits]
        said = [clean(text, "plain") for text in texts]
        heard = [clean(segment.text, "plain") for segment in written]
        step = max(1, len(texts) // SHOWN)
        shown = list(zip(texts, (s.text for s in written), strict=True))[::step][:SHOWN]
        ended = sum(s.outcome in ("ok", "no_speech") for s in written)
        return {
            **(word_errors(said, heard) if any(said) else {"wer": None}),
            "ended": ended / len(written),
            "empty": sum(not h for h, s in zip(heard, said, strict=True) if s) / len(written),
            "samples": [{"text": text, "hypothesis": hypothesis} for text, hypothesis in shown],
        }
