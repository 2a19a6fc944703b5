"""Step 7 of the path: prompt embeddings → tokens.

A plain greedy loop with a key-value cache. It gives what `generate` of transformers gives (a test
says so), and says besides why every row ended and how sure the decoder was of each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .errors import PromptError
from .modeling import AudioLM, positions_of

FinishReason = Literal["stop", "length", "loop"]
# A run of the same 1…8 tokens, this often in a row, is a loop: nobody says "zero" sixteen times.
LOOP_REPEATS = 16
LOOP_PERIODS = range(1, 9)


@dataclass(frozen=True)
class Written:
    """What the decoder wrote for one prompt, without its stop token."""

    tokens: list[int]
    logprobs: list[float]  # of every token, natural logarithm
    finish_reason: FinishReason


def token_limit(duration_s: float) -> int:
    """Most tokens for a clip: nobody speaks faster than about 25 tokens a second."""
    return 32 + int(25 * duration_s)


@dataclass
class _Row:
    """One prompt's answer while it is being written."""

    limit: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: FinishReason | None = None

    def take(self, token: int, logprob: float, is_stop: bool) -> None:
        """Take the next token, unless this row has ended already."""
        if self.reason is not None:
            return
        if is_stop:
            self.reason = "stop"
            return
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if loops(self.tokens):
            self.reason = "loop"
        elif len(self.tokens) >= self.limit:
            self.reason = "length"


@torch.inference_mode()
def write(
    model: AudioLM,
    embeds_BLD: Tensor,
    attention_mask: Tensor,
    stop_ids: Sequence[int],
    limits: Sequence[int],
) -> list[Written]:
    """Greedy decoding of a left-padded batch of prompt embeddings (B, L, D).

    `limits` is the most tokens of each row: a row's answer must not depend on its neighbours.
    """
    if not attention_mask[:, -1].all():
        raise PromptError(
            "A prompt ends in padding, so there is nothing to write from; pad on the left "
            'when generating: processor(..., padding_side="left").'
        )
    stop = torch.tensor(stop_ids, device=embeds_BLD.device)
    rows = [_Row(limit) for limit in limits]
    step, cache = {"inputs_embeds": embeds_BLD}, None
    while any(row.reason is None for row in rows):
        positions = positions_of(attention_mask)
        out = model.language_model(
            **step,
            attention_mask=attention_mask,
            position_ids=positions if cache is None else positions[:, -1:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        best_B = out.logits[:, -1].float().log_softmax(-1).max(-1)
        is_stop_B = torch.isin(best_B.indices, stop)
        for row, *taken in zip(
            rows, best_B.indices.tolist(), best_B.values.tolist(), is_stop_B.tolist(), strict=True
        ):
            row.take(*taken)
        step = {"input_ids": best_B.indices[:, None]}
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(rows), 1)], 1)
    return [Written(row.tokens, row.logprobs, row.reason or "length") for row in rows]


def loops(tokens: list[int]) -> bool:
    """Whether the end of `tokens` is one short run repeated LOOP_REPEATS times."""
    for period in LOOP_PERIODS:
        span = period * LOOP_REPEATS
        if len(tokens) >= span and tokens[-span:] == tokens[-period:] * LOOP_REPEATS:
            return True
    return False
