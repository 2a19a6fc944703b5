"""Step 7 of the path: prompt embeddings → tokens.

A plain greedy loop with a key-value cache. It gives what `generate` of transformers gives (a test says so),
and says besides why every row ended and how sure the decoder was of each token.
"""

from dataclasses import dataclass
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


@torch.inference_mode()
def write(
    model: AudioLM,
    embeds_BLD: Tensor,
    attention_mask: Tensor,
    stop_ids: list[int],
    max_new_tokens: int,
) -> list[Written]:
    """Greedy decoding of a left-padded batch of prompt embeddings (B, L, D)."""
    if not attention_mask[:, -1].all():
        raise PromptError(
            "A prompt ends in padding, so there is nothing to write from; pad on the left "
            'when generating: processor(..., padding_side="left").'
        )
    stop = torch.tensor(stop_ids, device=embeds_BLD.device)
    tokens: list[list[int]] = [[] for _ in embeds_BLD]
    logprobs: list[list[float]] = [[] for _ in embeds_BLD]
    reasons: list[FinishReason | None] = [None] * len(embeds_BLD)
    step, cache = {"inputs_embeds": embeds_BLD}, None
    for _ in range(max_new_tokens):
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
        scores_BV = out.logits[:, -1].float().log_softmax(-1)
        best_B = scores_BV.argmax(-1)
        stopped_B = torch.isin(best_B, stop)
        for row, token in enumerate(best_B.tolist()):
            if reasons[row] is None:
                if stopped_B[row]:
                    reasons[row] = "stop"
                    continue
                tokens[row].append(token)
                logprobs[row].append(scores_BV[row, token].item())
                if loops(tokens[row]):
                    reasons[row] = "loop"
        if None not in reasons:
            break
        step = {"input_ids": best_B[:, None]}
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(best_B), 1)], 1)
    return [
        Written(t, p, reason or "length")
        for t, p, reason in zip(tokens, logprobs, reasons, strict=True)
    ]


def loops(tokens: list[int]) -> bool:
    """Whether the end of `tokens` is one short run repeated LOOP_REPEATS times."""
    for period in LOOP_PERIODS:
        span = period * LOOP_REPEATS
        if len(tokens) >= span and tokens[-span:] == tokens[-period:] * LOOP_REPEATS:
            return True
    return False
