"""The configuration of decoding in config.json: what a model does unless a request differs."""

import math
from dataclasses import dataclass

from .config import StrictConfig
from .errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DecodingConfig(StrictConfig):
    """The decoding that suits a trained model, measured once and stored with it.

    `beams` above 1 searches for the likeliest text (`beam.py`); `ctc_weight` is the weight of a CTC
    head in that search. A transcription whose mean log-probability a token is below `min_logprob`
    counts as no speech: on sounds without speech most texts are, of clips of speech few
    (docs/decisions/020). A text that CTC heads judged, and find in the sound, is kept all the same.
    """

    beams: int = 1
    ctc_weight: float = 0.0
    min_logprob: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beams < 1:
            raise ConfigError(f"beams={self.beams}: 1 is greedy decoding, 5 is usual.")
        if not math.isfinite(self.ctc_weight):
            raise ConfigError(f"ctc_weight={self.ctc_weight}: expected a number.")
        if math.isnan(self.min_logprob):
            raise ConfigError(f"min_logprob={self.min_logprob}: expected a number.")
        if self.ctc_weight < 0 or (self.ctc_weight and self.beams == 1):
            raise ConfigError(
                f"ctc_weight={self.ctc_weight:g} with beams={self.beams}: a CTC head judges the "
                f"texts of a search; give at least two beams, and a weight above 0 (0.3 is usual)."
            )
