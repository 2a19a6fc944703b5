"""Beam search, step 7: keep several texts at a time, and take the one that is likeliest as a whole.

A greedy decoder cannot take a word back. Beam search keeps the `beams` likeliest beginnings of
every answer, until none of them can become likelier than the best one that has ended. What counts
is the sum of log-probabilities, that of the stop token included, not divided by length (as for
Whisper: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", section 4.5).

Letters: N open texts of all prompts, K of one prompt, V words.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConfigError
from .generation import FinishReason, Written, loops, refuse_padded_ends
from .modeling import AudioLM
from .steps import steps_of


class Text(NamedTuple):
    """A text that is being written: the sum of its log-probabilities, and what a judge adds."""

    logprob: float = 0.0
    judged: float = 0.0
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    reason: FinishReason | None = None

    @property
    def score(self) -> float:
        return self.logprob + self.judged

    def then(self, token: int, logprob: float) -> "Text":
        """Return the text with one token more, which is no stop token."""
        tokens, logprobs = (*self.tokens, token), (*self.logprobs, logprob)
        return Text(self.logprob + logprob, self.judged, tokens, logprobs)

    def ending(self, reason: FinishReason, logprob: float = 0.0) -> "Text":
        return self._replace(logprob=self.logprob + logprob, reason=reason)


# Returns what to add to the log-probability of each text, by another source's score. For a longer
# text, or for the same text when it has ended, this may not be larger.
Judge = Callable[[Sequence[Text]], list[float]]
JUDGED = 3  # beginnings that a judge sees for every one that is kept


@dataclass
class _Search:
    """The search for one prompt: its open texts, and the likeliest text that has ended."""

    limit: int
    beams: int
    open: list[Text] = field(default_factory=lambda: [Text()])
    best: Text | None = None
    judge: Judge | None = None
    proposed: Sequence[int] = ()

    def take(self, logprobs_KV: Tensor, stop: Collection[int]) -> list[int]:
        """Extend the open texts by all next tokens; return the new texts with their origins."""
        scores_K = logprobs_KV.new_tensor([text.score for text in self.open])
        scores_KV = scores_K[:, None] + logprobs_KV
        made: list[tuple[int, Text]] = []
        for place, token in self._likely(scores_KV, len(stop)):
            text, logprob = self.open[place], float(logprobs_KV[place, token])
            more = text.ending("stop", logprob) if token in stop else text.then(token, logprob)
            made.append((place, more))
        going: list[tuple[int, Text]] = []
        for place, text in self._judged(made):
            if text.reason:
                self._end(text)
            elif len(going) < self.beams:
                going.append((place, text))
        going = [(place, text) for place, text in going if not self._must_end(text)]
        # A text can only become less likely, so those behind the best ended one are dropped.
        going = [each for each in going if not self.best or each[1].score > self.best.score]
        self.open = [text for _, text in going]
        return [place for place, _ in going]

    def _likely(self, scores_KV: Tensor, num_stops: int) -> list[tuple[int, int]]:
        """Return open texts with a next token: the likeliest, and the likeliest of those proposed.

        The judge decides among them, so a token that the model finds unlikely can win too.
        """
        seen = self.beams * (JUDGED if self.judge else 1)
        most = seen + len(self.open) * num_stops  # enough even if stop tokens are the likeliest
        found = places(scores_KV, most)
        if self.proposed:
            columns = torch.tensor(self.proposed, device=scores_KV.device)
            some = places(scores_KV[:, columns], seen)
            found += [(place, self.proposed[column]) for place, column in some]
        return list(dict.fromkeys(found))

    def _judged(self, made: list[tuple[int, Text]]) -> list[tuple[int, Text]]:
        """Add what the judge says of each text, and sort them, the likeliest first."""
        if self.judge is None:
            return made
        scores = self.judge([text for _, text in made])
        judged = [(p, t._replace(judged=j)) for (p, t), j in zip(made, scores, strict=True)]
        return sorted(judged, key=lambda each: -each[1].score)

    def _must_end(self, text: Text) -> bool:
        if loops(list(text.tokens)):
            self._end(text.ending("loop"))
        elif len(text.tokens) >= self.limit:
            self._end(text.ending("length"))
        else:
            return False
        return True

    def _end(self, text: Text) -> None:
        if self.best is None or text.score > self.best.score:
            self.best = text

    def written(self) -> Written:
        best = self.best
        assert best is not None
        assert best.reason is not None
        return Written(list(best.tokens), list(best.logprobs), best.reason)


def places(scores_KV: Tensor, most: int) -> list[tuple[int, int]]:
    """Return rows and columns of the highest scores, highest first."""
    indices = scores_KV.flatten().topk(min(most, scores_KV.numel())).indices.tolist()
    return [divmod(index, scores_KV.shape[1]) for index in indices]


@torch.inference_mode()
def search(
    model: AudioLM,
    embeds_BLD: Tensor,
    attention_mask: Tensor,
    stop_ids: Sequence[int],
    limits: Sequence[int],
    beams: int,
    judges: Sequence[Judge] | None = None,
    plain: bool = False,
    proposed: Sequence[Sequence[int]] | None = None,
) -> list[Written]:
    """Search as `generation.write` writes, with `beams` open texts for each prompt. `judges`, one
    for each prompt, add what they think of its texts; `proposed` are tokens that they shall see
    after each text beside the model's own likeliest.

    Costs `beams` times the key-value cache. One beam is greedy decoding that may also stop earlier,
    where that is the likelier text.
    """
    refuse_padded_ends(attention_mask)
    if beams < 1:
        raise ConfigError(f"beams={beams}: a search needs at least one; 1 is greedy, 5 is usual.")
    steps, stop = steps_of(model.language_model, plain), set(stop_ids)
    searches = [_Search(limit, beams) for limit in limits]
    for one, judge in zip(searches, judges or [], strict=judges is not None):
        one.judge = judge
    for one, tokens in zip(searches, proposed or [], strict=proposed is not None):
        one.proposed = tokens
    logits_NV = steps.begin(embeds_BLD, attention_mask)
    while True:
        logprobs_NV, origins, first = logits_NV.float().log_softmax(-1), [], 0
        for one in (one for one in searches if one.open):
            here = slice(first, first + len(one.open))
            origins += [first + place for place in one.take(logprobs_NV[here], stop)]
            first = here.stop
        if not origins:
            return [one.written() for one in searches]
        last = [text.tokens[-1] for one in searches for text in one.open]
        steps.keep(torch.tensor(origins, device=embeds_BLD.device))
        logits_NV = steps.next(torch.tensor(last, device=embeds_BLD.device))
