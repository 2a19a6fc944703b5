"""A request for a transcription: the model's own configuration decides what it leaves open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tiny_audio.model.decoding import DecodingConfig
from tiny_audio.model.errors import ConfigError

KEEP_ALL = -math.inf  # as `min_logprob`: no text is too unsure
Timestamps = Literal["segment", "word"]


@dataclass(frozen=True)
class Request:
    """The settings of a transcription, the same for every window.

    `prompt` replaces the instruction that the model was trained with, unless it is empty;
    `hotwords` are favoured (`hotwords.py`); `timestamps="word"` gives words their times. `beams`,
    `ctc_weight` and `min_logprob` are explained in `DecodingConfig`; None is the model's own value.
    A `prompt` keeps all that is written (a description is less sure of its words), and so does
    `KEEP_ALL` as `min_logprob`. `whole` cuts audio at the encoder's limit only, not in pauses.
    `diarize` says of every word who spoke it (`speakers.py`), `speakers` how many there are, if
    that is known.
    """

    prompt: str | None = None
    hotwords: tuple[str, ...] = ()
    timestamps: Timestamps = "segment"
    min_logprob: float | None = None
    beams: int | None = None
    ctc_weight: float | None = None
    whole: bool = False
    diarize: bool = False
    speakers: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", self.prompt or None)  # "" asks nothing else, as in eval
        if (self.beams or 1) > 1 and self.hotwords:
            raise ConfigError(
                "Hotwords work with greedy decoding only; leave out the hotwords or the beams."
            )
        self.decoding(DecodingConfig(beams=2))  # what is wrong for every model
        if self.timestamps not in ("segment", "word"):
            raise ConfigError(f'timestamps={self.timestamps!r}: expected "segment" or "word".')
        if self.diarize and self.timestamps != "word":
            raise ConfigError('Saying who spoke needs the times of words: timestamps="word".')
        if self.speakers is not None and (not self.diarize or self.speakers < 1):
            raise ConfigError(
                f"speakers={self.speakers}: expected 1 or more, together with diarize (--diarize)."
            )
        if isinstance(self.hotwords, str):
            raise ConfigError(f"hotwords={self.hotwords!r}: expected words, e.g. ('Ada', 'Grace').")

    def decoding(self, own: DecodingConfig) -> DecodingConfig:
        """Return how this request decodes with a model whose own way is `own`.

        Hotwords and a prompt are answered greedily unless beams are asked for; greedy decoding has
        no use for a CTC head.
        """
        beams = self.beams
        if beams is None:
            beams = 1 if self.hotwords or self.prompt is not None else own.beams
        weight = own.ctc_weight if self.ctc_weight is None and beams > 1 else self.ctc_weight or 0.0
        least = own.min_logprob if self.min_logprob is None else self.min_logprob
        if self.prompt is not None:
            least = KEEP_ALL
        return DecodingConfig(beams=beams, ctc_weight=weight, min_logprob=least)


PLAIN = Request()
AS_WRITTEN = Request(min_logprob=KEEP_ALL)
