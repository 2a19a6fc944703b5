"""What a CTC head thinks of texts that are being written: the partner of beam search.

A language model writes what is usually said; a CTC head knows letters, frame by frame, and nothing
of language. A search that adds both log-probabilities writes what is usual *and* was heard (joint
decoding: Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition",
2017). A beginning of a text counts with the probability that the head's text begins so.

Letters: T frames, C characters and the blank, K texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tiny_audio.infer.ctc_head import UNKNOWN, encode_characters, letters_of
from tiny_audio.model.beam import Text

BLANK = 0


class Prefix(NamedTuple):
    """Log-probabilities of a string of characters: that the head's text begins with it, and is it;
    and of all paths that have written it by each frame, ending in its last character or in a blank.
    """

    begins: float
    ends: float
    character_T: Tensor
    blank_T: Tensor


class CtcScore:
    """Scores the texts of one clip; `decode` turns their tokens into text.

    What the head cannot spell (the "12" of "12 men") may be anything: it takes the likeliest path
    through as many frames as suits the rest.
    """

    def __init__(self, log_probs_TC: Tensor, weight: float, decode: Callable[[Sequence[int]], str]):
        self.weight, self.decode = weight, decode
        self.log_probs_CT = log_probs_TC.T.cpu().double()
        self.sums_CT = self.log_probs_CT.cumsum(1)
        blank_T = self.sums_CT[BLANK]
        never_T = torch.full_like(blank_T, -torch.inf)
        self.known = {"": Prefix(0.0, float(blank_T[-1]), never_T, blank_T)}
        self.likeliest_T = self.log_probs_CT.amax(0).cumsum(0)
        self.never_T = never_T

    def __call__(self, texts: Sequence[Text]) -> list[float]:
        """The weighted log-probability of each text, or of its beginning if it has not ended."""
        spelled = [letters_of(self.decode(text.tokens)) for text in texts]
        self.learn(set(spelled))
        scores = []
        for text, letters in zip(texts, spelled, strict=True):
            found = self.known[letters]
            scores.append(self.weight * (found.ends if text.reason == "stop" else found.begins))
        return scores

    def learn(self, strings: set[str]) -> None:
        """Know these, from what is known of their beginnings, and nothing else any more."""
        missing = {part for string in strings for part in self.unknown(string)}
        for length in sorted({len(part) for part in missing}):
            level = [part for part in missing if len(part) == length and part[-1] != UNKNOWN]
            if level:
                self.known |= zip(level, self.extended(level), strict=True)
            odd = [part for part in missing if len(part) == length and part[-1] == UNKNOWN]
            self.known |= {part: self.passed_over(part) for part in odd}
        self.known = {string: self.known[string] for string in {"", *strings}}

    def unknown(self, string: str) -> list[str]:
        """It and its beginnings, longest first, up to one that is known."""
        parts = (string[:length] for length in range(len(string), 0, -1))
        return list(itertools.takewhile(lambda part: part not in self.known, parts))

    def extended(self, strings: Sequence[str]) -> list[Prefix]:
        """Strings whose beginnings without their last character are known.

        Paths that wrote the beginning by frame t - 1 may write the character at t. They may all
        have, unless it is the same as the one before: then only those with a blank between.
        """
        parents = [self.known[s[:-1]] for s in strings]
        ids_K = torch.tensor([encode_characters(s[-1])[0] for s in strings])
        blank_KT = torch.stack([p.blank_T for p in parents])
        character_KT = torch.stack([p.character_T for p in parents])
        repeats_K1 = torch.tensor([[s[-1:] == s[-2:-1]] for s in strings])
        before_KT = torch.where(repeats_K1, blank_KT, torch.logaddexp(blank_KT, character_KT))
        start = 0.0 if len(strings[0]) == 1 else -torch.inf
        before_KT = delayed(before_KT, start)
        now_KT = self.stays(before_KT, self.sums_CT[ids_K])
        later_KT = self.stays(delayed(now_KT, -torch.inf), self.sums_CT[BLANK])
        heard_K = (before_KT + self.log_probs_CT[ids_K]).logsumexp(1).tolist()
        begins_K = [min(p.begins, heard) for p, heard in zip(parents, heard_K, strict=True)]
        heard_K = torch.logaddexp(now_KT[:, -1], later_KT[:, -1]).tolist()
        ends_K = map(min, begins_K, heard_K)
        return list(map(Prefix, begins_K, ends_K, now_KT, later_KT))

    def passed_over(self, string: str) -> Prefix:
        """A string that ends in what the head cannot spell: the likeliest path through one frame or
        more, from the likeliest frame on. What comes after it decides through how many; until then
        it costs nothing.
        """
        parent = self.known[string[:-1]]
        start = 0.0 if len(string) == 1 else -torch.inf
        before_T = delayed(torch.logaddexp(parent.blank_T, parent.character_T), start)
        entered_T = (before_T - delayed(self.likeliest_T, 0.0)).cummax(-1).values
        now_T = self.likeliest_T + entered_T
        return Prefix(parent.begins, min(parent.begins, float(now_T[-1])), now_T, self.never_T)

    def stays(self, enters_KT: Tensor, sums_KT: Tensor) -> Tensor:
        """Paths that enter a symbol at some frame and are still in it, given its summed
        log-probabilities: a sum over all frames of entry.
        """
        return sums_KT + torch.logcumsumexp(enters_KT - delayed(sums_KT, 0.0), -1)


def delayed(values_KT: Tensor, first: float) -> Tensor:
    """By one frame."""
    start_K1 = torch.full_like(values_KT[..., :1], first)
    return torch.cat([start_K1, values_KT[..., :-1]], -1)
