"""Step 7 of the path: prompt embeddings → tokens.

A plain greedy loop with a key-value cache. It writes the same tokens as `generate` of transformers
(a test compares them), and also returns why every row ended and the probability of each token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .errors import PromptError
from .modeling import AudioLM
from .steps import steps_of

FinishReason = Literal["stop", "length", "loop"]
# A run of the same 1…8 tokens, this often in a row, is a loop: nobody says "zero" sixteen times.
LOOP_REPEATS = 16
LOOP_PERIODS = range(1, 9)
# Rows that have ended leave the batch when at most this share of rows still writes. Not earlier,
# because leaving copies the cache.
SHRINK_SHARE = 0.75
# (row, its tokens so far) → {next token: what to add to its logit}. Called once a step for every
# row that still writes; an empty mapping changes nothing.
Bias = Callable[[int, Sequence[int]], Mapping[int, float]]


@dataclass(frozen=True)
class Written:
    """The tokens that the decoder wrote for one prompt, without its stop token."""

    tokens: list[int]
    logprobs: list[float]  # of every token, natural logarithm
    finish_reason: FinishReason
    # How much likelier than silence CTC heads find it (natural logarithm a token), if they judged.
    support: float | None = None


def token_limit(duration_s: float) -> int:
    """Return the most tokens for a clip: nobody speaks faster than about 25 tokens a second."""
    return 32 + int(25 * duration_s)


@dataclass
class _Row:
    """One prompt's answer while it is being written."""

    number: int
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
    plain: bool = False,
) -> list[Written]:
    """Decode greedily after a left-padded batch of prompt embeddings (B, L, D).

    `limits` is the most tokens of each row: a row's answer must not depend on its neighbours.
    `bias` favours some next tokens (hotwords); log-probabilities stay the decoder's own. `plain`
    steps with transformers' own forward also where `steps.py` knows a faster way.
    """
    refuse_padded_ends(attention_mask)
    rows = [_Row(number, limit) for number, limit in enumerate(limits)]
    steps, stop, batch = steps_of(model.language_model, plain), set(stop_ids), rows
    logits_BV = steps.begin(embeds_BLD, attention_mask)
    while True:
        tokens, logprobs = chosen(logits_BV.float(), batch, bias)
        for row, token, logprob in zip(batch, tokens, logprobs, strict=True):
            row.take(token, logprob, token in stop)
        writing = [place for place, row in enumerate(batch) if row.reason is None]
        if not writing:
            return [Written(row.tokens, row.logprobs, row.reason or "length") for row in rows]
        if len(writing) <= SHRINK_SHARE * len(batch):
            steps.keep(torch.tensor(writing, device=embeds_BLD.device))
            batch, tokens = [batch[n] for n in writing], [tokens[n] for n in writing]
        logits_BV = steps.next(torch.tensor(tokens, device=embeds_BLD.device))


def refuse_padded_ends(mask_BL: Tensor) -> None:
    """Refuse prompts that end in padding: nothing can be written behind it."""
    if not mask_BL[:, -1].all():
        raise PromptError(
            "A prompt ends in padding, so there is nothing to write from; pad on the left "
            'when generating: processor(..., padding_side="left").'
        )


def chosen(
    logits_BV: Tensor, batch: Sequence[_Row], bias: Bias | None
) -> tuple[list[int], list[float]]:
    """Return the best next token of every row and its log-probability."""
    scores_BV = logits_BV if bias is None else biased(logits_BV, batch, bias)
    ids_B1 = scores_BV.argmax(-1, keepdim=True)
    logprobs_B1 = logits_BV.gather(1, ids_B1) - logits_BV.logsumexp(-1, keepdim=True)
    return ids_B1[:, 0].tolist(), logprobs_B1[:, 0].tolist()


def biased(logits_BV: Tensor, batch: Sequence[_Row], bias: Bias) -> Tensor:
    """Return the logits with what the caller adds; those of rows that have ended do not matter."""
    scores_BV = logits_BV.clone()
    for place, row in enumerate(batch):
        if row.reason is None and (more := bias(row.number, row.tokens)):
            ids = torch.tensor(list(more), device=scores_BV.device)
            scores_BV[place, ids] += scores_BV.new_tensor(list(more.values()))
    return scores_BV


def loops(tokens: list[int]) -> bool:
    """Tell whether the end of `tokens` is one short run repeated LOOP_REPEATS times."""
    for period in LOOP_PERIODS:
        span = period * LOOP_REPEATS
        if len(tokens) >= span and tokens[-span:] == tokens[-period:] * LOOP_REPEATS:
            return True
    return False


def before_loop(written: Written) -> Written:
    """Return a text without the whole run of repetitions at its end."""
    tokens, lengths = written.tokens, LOOP_PERIODS
    period = next(n for n in lengths if tokens[-n:] * LOOP_REPEATS == tokens[-n * LOOP_REPEATS :])
    end = len(tokens) - period
    while end and tokens[end - 1] == tokens[end - 1 + period]:
        end -= 1
    return Written(tokens[:end], written.logprobs[:end], written.finish_reason)
