"""Scoring the texts of a beam search with a CTC head.

A language model writes what is usually said; a CTC head knows what sounds like each frame, and
nothing of language. A search that adds both log-probabilities writes what is usual *and* in the
sound (joint decoding: Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech
Recognition", 2017). The beginning of a text counts with the probability that the head's text begins
so.

A head spells a text in its own labels: characters (`by_characters`) or the decoder's tokens
(`by_tokens`). Label 0 is the blank; UNKNOWN stands for a run of what the head has no label for.

Letters: T frames, C labels with the blank, K texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tiny_audio.infer import ctc_head
from tiny_audio.infer.token_head import TokenHead
from tiny_audio.model.beam import Judge, Text

BLANK, UNKNOWN = 0, -1
Labels = tuple[int, ...]
Spell = Callable[[Sequence[int]], Labels]  # tokens of a text → labels of the head


class Prefix(NamedTuple):
    """A string of labels with its log-probabilities: that the head's text begins with it, and that
    it is the whole text. Then, by frame, those of all paths that have written it so far and end in
    its last label, or in a blank.
    """

    begins: float
    ends: float
    label_T: Tensor
    blank_T: Tensor


class CtcScore:
    """Scores the texts of one clip; `spell` turns their tokens into labels of the head.

    What the head cannot spell (the "12" of "12 men") may be anything: it takes the likeliest path
    through as many frames as suits the rest.
    """

    def __init__(self, log_probs_TC: Tensor, weight: float, spell: Spell):
        self.weight, self.spell = weight, spell
        self.log_probs_CT = log_probs_TC.T.cpu()
        self.blank_sum_T = self.rows([BLANK])[0].cumsum(0)
        self.never_T = torch.full_like(self.blank_sum_T, -torch.inf)
        empty = Prefix(0.0, float(self.blank_sum_T[-1]), self.never_T, self.blank_sum_T)
        self.known: dict[Labels, Prefix] = {(): empty}
        self.likeliest_T = self.log_probs_CT.amax(0).double().cumsum(0)

    def rows(self, labels: Sequence[int]) -> Tensor:
        """Return log-probabilities (K, T) of labels in float64, for many frames are summed."""
        return self.log_probs_CT[torch.tensor(labels)].double()

    def __call__(self, texts: Sequence[Text]) -> list[float]:
        """Return the weighted log-probability of each text, or of its beginning if it goes on."""
        spelled = [self.spell(text.tokens) for text in texts]
        self.learn(set(spelled))
        scores = []
        for text, labels in zip(texts, spelled, strict=True):
            found = self.known[labels]
            scores.append(self.weight * (found.ends if text.reason == "stop" else found.begins))
        return scores

    def learn(self, strings: set[Labels]) -> None:
        """Compute these strings from what is known of their beginnings, and forget all others."""
        missing = {part for string in strings for part in self.unknown(string)}
        for length in sorted({len(part) for part in missing}):
            level = [part for part in missing if len(part) == length and part[-1] != UNKNOWN]
            if level:
                self.known |= zip(level, self.extended(level), strict=True)
            odd = [part for part in missing if len(part) == length and part[-1] == UNKNOWN]
            self.known |= {part: self.passed_over(part) for part in odd}
        self.known = {string: self.known[string] for string in {(), *strings}}

    def unknown(self, string: Labels) -> list[Labels]:
        """Return a string and its beginnings, longest first, up to one that is known."""
        parts = (string[:length] for length in range(len(string), 0, -1))
        return list(itertools.takewhile(lambda part: part not in self.known, parts))

    def extended(self, strings: Sequence[Labels]) -> list[Prefix]:
        """Return strings whose beginnings without their last character are known.

        Paths that wrote the beginning by frame t - 1 may write the character at t. They may all
        have, unless it is the same as the one before: then only those with a blank between.
        """
        parents = [self.known[s[:-1]] for s in strings]
        rows_KT = self.rows([s[-1] for s in strings])
        blank_KT = torch.stack([p.blank_T for p in parents])
        label_KT = torch.stack([p.label_T for p in parents])
        repeats_K1 = torch.tensor([[s[-1:] == s[-2:-1]] for s in strings])
        before_KT = torch.where(repeats_K1, blank_KT, torch.logaddexp(blank_KT, label_KT))
        start = 0.0 if len(strings[0]) == 1 else -torch.inf
        before_KT = delayed(before_KT, start)
        now_KT = stays(before_KT, rows_KT.cumsum(1))
        later_KT = stays(delayed(now_KT, -torch.inf), self.blank_sum_T)
        written_K = (before_KT + rows_KT).logsumexp(1).tolist()
        begins_K = [min(p.begins, written) for p, written in zip(parents, written_K, strict=True)]
        written_K = torch.logaddexp(now_KT[:, -1], later_KT[:, -1]).tolist()
        ends_K = map(min, begins_K, written_K)
        return list(map(Prefix, begins_K, ends_K, now_KT, later_KT))

    def passed_over(self, string: Labels) -> Prefix:
        """Return the score of a string that ends in what the head cannot spell: the likeliest path
        through one frame or more, from the likeliest frame on. What comes after it decides through
        how many; until then it costs nothing.
        """
        parent = self.known[string[:-1]]
        start = 0.0 if len(string) == 1 else -torch.inf
        before_T = delayed(torch.logaddexp(parent.blank_T, parent.label_T), start)
        entered_T = (before_T - delayed(self.likeliest_T, 0.0)).cummax(-1).values
        now_T = self.likeliest_T + entered_T
        return Prefix(parent.begins, min(parent.begins, float(now_T[-1])), now_T, self.never_T)


def added(judges: Iterable[Judge]) -> Judge:
    """Return one judge, whose score is the sum of several judges' scores."""
    every = list(judges)
    return lambda texts: [
        sum(each) for each in zip(*(judge(texts) for judge in every), strict=True)
    ]


def stays(enters_KT: Tensor, sums_KT: Tensor) -> Tensor:
    """Return paths that enter a label at some frame and are still in it, given its summed
    log-probabilities: a sum over all frames of entry.
    """
    return sums_KT + torch.logcumsumexp(enters_KT - delayed(sums_KT, 0.0), -1)


def delayed(values_KT: Tensor, first: float) -> Tensor:
    """Return the same values one frame later."""
    start_K1 = torch.full_like(values_KT[..., :1], first)
    return torch.cat([start_K1, values_KT[..., :-1]], -1)


def by_characters(decode: Callable[[Sequence[int]], str]) -> Spell:
    """Return the labels of a character head; `decode` turns tokens into text."""

    def spell(tokens: Sequence[int]) -> Labels:
        letters = ctc_head.letters_of(decode(tokens))
        known = (c != ctc_head.UNKNOWN for c in letters)
        return tuple(
            ctc_head.encode_characters(c)[0] if is_known else UNKNOWN
            for c, is_known in zip(letters, known, strict=True)
        )

    return spell


def by_tokens(head: TokenHead) -> Spell:
    """Return the labels of a token head."""
    labels = {int(token): label for label, token in enumerate(head.tokens_V, 1)}

    def spell(tokens: Sequence[int]) -> Labels:
        found = (labels.get(token, UNKNOWN) for token in tokens)
        runs = itertools.groupby(found, key=lambda label: label == UNKNOWN)
        return tuple(
            itertools.chain.from_iterable([UNKNOWN] if is_run else run for is_run, run in runs)
        )

    return spell
