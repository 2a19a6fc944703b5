"""Step 7 of the path: prompt embeddings → tokens.

A plain greedy loop with a key-value cache. It gives what `generate` of transformers gives (a test
says so), and says besides why every row ended and how sure the decoder was of each token.
"""

from collections.abc import Callable, Mapping, Sequence
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
# (row, its tokens so far) → what to add to the logits of which next tokens. Called once a step for
# every row that still writes; an empty mapping changes nothing.
Bias = Callable[[int, Sequence[int]], Mapping[int, float]]


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
    bias: Bias | None = None,
) -> list[Written]:
    """Greedy decoding of a left-padded batch of prompt embeddings (B, L, D).

    `limits` is the most tokens of each row: a row's answer must not depend on its neighbours.
    `bias` favours some next tokens (hotwords); log-probabilities stay the decoder's own.
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
        logprobs_BV = out.logits[:, -1].float().log_softmax(-1)
        ids_B = biased(logprobs_BV, rows, bias).argmax(-1)
        values_B = logprobs_BV.gather(1, ids_B[:, None])[:, 0]
        is_stop_B = torch.isin(ids_B, stop)
        for row, *taken in zip(
            rows, ids_B.tolist(), values_B.tolist(), is_stop_B.tolist(), strict=True
        ):
            row.take(*taken)
        step = {"input_ids": ids_B[:, None]}
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(rows), 1)], 1)
    return [Written(row.tokens, row.logprobs, row.reason or "length") for row in rows]


def biased(logprobs_BV: Tensor, rows: Sequence[_Row], bias: Bias | None) -> Tensor:
    """The scores that the next tokens are chosen by; those of ended rows do not matter."""
    if bias is None:
        return logprobs_BV
    scores_BV = logprobs_BV.clone()
    for number, row in enumerate(rows):
        if row.reason is None and (more := bias(number, row.tokens)):
            ids = torch.tensor(list(more), device=scores_BV.device)
            scores_BV[number, ids] += scores_BV.new_tensor(list(more.values()))
    return scores_BV


def loops(tokens: list[int]) -> bool:
    """Whether the end of `tokens` is one short run repeated LOOP_REPEATS times."""
    for period in LOOP_PERIODS:
        span = period * LOOP_REPEATS
        if len(tokens) >= span and tokens[-span:] == tokens[-period:] * LOOP_REPEATS:
            return True
    return False
