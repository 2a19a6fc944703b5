"""Evaluating a model while it trains: token accuracy, word error rate, ablation gap.

The same answers are scored after the clip itself, after another clip and after silence. A model
that listens is worse off with the wrong sound; one that only knows the language is not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_audio.data.examples import Dropped, Example
from tiny_audio.data.mixture import DataConfig, Visit, cut
from tiny_audio.data.text import clean
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Request, Transcriber, Window
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import AudioError, ConfigError
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import prepare
from tiny_audio.train.batch import Collator, parts_of, played
from tiny_audio.train.distributed import gather_dealt, rank, world_size
from tiny_audio.train.task import Listening

SHOWN = 8  # texts that an evaluation keeps beside what was written
KINDS = ("", "_shuffled", "_silent")
KEPT_BYTES = 2**28  # of frames that a frozen encoder need not make again


class EncodedBatch(NamedTuple):
    """The frames of every visit's clips, and of a silence as long as the longest of them."""

    own: list[list[Tensor]]
    silence: Tensor

    def silent(self) -> list[list[Tensor]]:
        """Return silence in the place of every clip."""
        return [[self.silence] * len(clips) for clips in self.own]

    def shuffled(self, others: Sequence[list[Tensor]]) -> list[list[Tensor]]:
        """Return the clips of others for every visit, repeated where those have fewer."""
        pairs = zip(self.own, others, strict=True)
        return [list(islice(cycle(other), len(clips))) for clips, other in pairs]


class Judged(NamedTuple):
    """The results of a batch: (loss, tokens, correct) for each kind of sound, and the texts."""

    sums: list[tuple[float, int, int]]
    written: list[Segment]


class Evaluation:
    """The validation clips of a run, in batches that stay the same.

    Clips that cannot be decoded are counted in `dropped`.
    """

    def __init__(
        self,
        model: AudioLM,
        examples: Sequence[Example],
        config: DataConfig,
        seed: int,
        dropped: Dropped | None = None,
    ):
        self.model, self.task = model, Listening(model)
        self.collator = Collator(model, dropped=dropped or Dropped())
        self.request = Request(beams=config.validation_beams, ctc_weight=0.0)
        drawn = list(examples)
        random.Random(f"evaluation/{seed}").shuffle(drawn)
        self.batches: list[tuple[list[Visit], list[list[Tensor]]]] = []
        usable = self._decodable(drawn[: config.validation_clips])
        if not usable:
            raise ConfigError(
                f"None of the {len(drawn)} validation clips can be used "
                f"({dict(self.collator.dropped.counts())}); name others with data.validation."
            )
        usable.sort(key=lambda pair: pair[0].example.duration_s)
        self.samples = {id(visit): clips for visit, clips in usable}
        for batch in cut([visit for visit, _ in usable], config, lambda e: 1):
            self.batches.append((batch, [self.samples[id(visit)] for visit in batch]))
        self._kept: dict[int, EncodedBatch] = {}
        self._kept_bytes = 0

    def _decodable(self, examples: Sequence[Example]) -> list[tuple[Visit, list[Tensor]]]:
        kept, most = [], self.model.config.encoder.max_samples
        for example in examples:
            visit = Visit(example, 0, 0)
            try:
                clips = [played(part, None, most) for part in parts_of(visit)]
                kept.append((visit, list(map(torch.from_numpy, clips))))
            except AudioError as error:
                self.collator.dropped.add(error.reason, example.where)
        return kept

    @torch.no_grad()
    def __call__(self) -> dict[str, Any]:
        """Return one row of metrics.jsonl; all processes must ask, for each judges its share."""
        own = range(rank(), len(self.batches), world_size())
        judged = gather_dealt([self.judge(number) for number in own])
        written = [segment for one in judged for segment in one.written]
        row: dict[str, Any] = {"kind": "evaluation", "clips": len(written)}
        for kind, sums in zip(KINDS, zip(*(one.sums for one in judged), strict=True), strict=True):
            total, count, correct = map(sum, zip(*sums, strict=True))
            row |= {f"loss{kind}": total / count, f"token_accuracy{kind}": correct / count}
        return row | self.words(written)

    def judge(self, number: int) -> Judged:
        visits, _ = self.batches[number]
        batch = self.encoded(number)
        own = batch.own
        # A visit that is alone in its batch gets the clips of another batch.
        others = own[1:] + own[:1] if len(own) > 1 else self.encoded(number - 1).own[-1:]
        sums = []
        for frames in (own, batch.shuffled(others), batch.silent()):
            losses = self.task(self.collator.collate(frames, visits).to(self.model.device))
            sums.append((float(losses.total), losses.tokens, losses.correct))
        return Judged(sums, self.write(visits, own))

    def encoded(self, number: int) -> EncodedBatch:
        """Return the frames of a batch, which are kept where the encoder is frozen."""
        if number in self._kept:
            return self._kept[number]
        _, clips = self.batches[number]
        every = [clip for of_visit in clips for clip in of_visit]
        made = iter(self.frames(every))
        own = [[next(made) for _ in of_visit] for of_visit in clips]
        batch = EncodedBatch(own, self.frames([max(every, key=len) * 0])[0])
        size = sum(frames.nbytes for of_visit in own for frames in of_visit) + batch.silence.nbytes
        frozen = not any(p.requires_grad for p in self.model.audio_tower.parameters())
        if frozen and self._kept_bytes + size <= KEPT_BYTES:
            self._kept[number], self._kept_bytes = batch, self._kept_bytes + size
        return batch

    def frames(self, clips: Sequence[Tensor]) -> list[Tensor]:
        made = features(self.model.config.encoder, [c.to(self.model.device) for c in clips])
        frames_BTE, lengths_B = self.model.audio_tower(made)
        return [f[:n] for f, n in zip(frames_BTE, lengths_B.tolist(), strict=True)]

    def write(self, visits: Sequence[Visit], frames: Sequence[Sequence[Tensor]]) -> list[Segment]:
        """Write texts as `transcribe` does, from frames, with each visit's own question."""
        transcriber = Transcriber(self.model)
        turns = [self.collator.asked(visit) for visit in visits]
        prompts = prepare(self.model, turns, frames)
        windows = [Window(0, torch.cat(self.samples[id(visit)])) for visit in visits]
        written = transcriber.write_prompts(windows, *prompts, self.request)
        return list(map(transcriber.segment, windows, written))

    def words(self, written: Sequence[Segment]) -> dict[str, Any]:
        """Return the WER over words without case and punctuation, and how answers ended."""
        texts = [visit.example.text for visits, _ in self.batches for visit in visits]
        references = [clean(text, "plain") for text in texts]
        hypotheses = [clean(segment.text, "plain") for segment in written]
        step = max(1, len(texts) // SHOWN)
        shown = list(zip(texts, (s.text for s in written), strict=True))[::step][:SHOWN]
        ended = sum(s.outcome in ("ok", "no_speech") for s in written)
        return {
            **(word_errors(references, hypotheses) if any(references) else {"wer": None}),
            "normalizer": "plain",
            "beams": self.request.beams or 1,
            "ended": ended / len(written),
            "empty": sum(not h for h, r in zip(hypotheses, references, strict=True) if r)
            / len(written),
            "samples": [{"text": text, "hypothesis": hypothesis} for text, hypothesis in shown],
        }
