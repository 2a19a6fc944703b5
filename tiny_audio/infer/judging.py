"""The CTC heads of a model as judges of a beam search: what each says of one clip."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from tiny_audio.model.beam import Judge, Text
from tiny_audio.model.modeling import AudioLM

from .ctc_score import CtcScore, Spell, added, by_characters, by_tokens
from .timestamps import Aligner
from .token_head import TokenHead, token_log_probs

# From this support on a text is no doubt of speech, however unusual it is (docs/decisions/082): on
# 50 clips of speech it was at least 15.8, on the only sound without speech that got a text -1
# (weights of the fourth session).
SUPPORTED = 10.0


class Head(NamedTuple):
    """A CTC head, its log-probabilities (T, C) for samples, its spelling of tokens, and the tokens
    that it finds likely, given these log-probabilities.
    """

    module: nn.Module
    log_probs: Callable[[Tensor], Tensor]
    spell: Spell
    likely: Callable[[Tensor], list[int]]


def of_tokens(head: TokenHead, model: AudioLM) -> Head:
    """Return the token head, which judges the decoder's tokens and proposes some."""
    return Head(head, partial(token_log_probs, head, model), by_tokens(head), head.likely)


def of_characters(aligner: Aligner) -> Head:
    """Return the character head, which judges spellings and proposes nothing."""
    decode = partial(aligner.model.tokenizer.decode, skip_special_tokens=True)
    return Head(aligner.head, aligner.log_probs, by_characters(decode), lambda _: [])


def judge(heads: Sequence[Head], samples_N: Tensor, weight: float) -> tuple[Judge, list[int]]:
    """Return the sum of the heads' scores for a clip's texts, and the tokens they propose."""
    read = [(head, head.log_probs(samples_N)) for head in heads]
    summed = added(CtcScore(log_probs, weight, head.spell) for head, log_probs in read)
    return summed, [token for head, log_probs in read for token in head.likely(log_probs)]


def support_of(judge: Judge, tokens: Sequence[int], weight: float) -> float:
    """Return how much likelier than silence the heads find a text: natural logarithm a token."""
    text, silence = judge([Text(tokens=tuple(tokens), reason="stop"), Text(reason="stop")])
    return (text - silence) / (weight * max(1, len(tokens)))


def is_doubted(mean_logprob: float | None, support: float | None, least: float) -> bool:
    """Tell whether a text counts as no speech: its mean log-probability is below `least`, and no
    CTC head finds it in the sound (`Written.support`).
    """
    unsure = mean_logprob is not None and mean_logprob < least
    return unsure and (support is None or support < SUPPORTED)
