"""Favouring words that are likely to be said, while the text is written.

Shallow fusion with a trie of the words' tokens (Zhao et al., "Shallow-Fusion End-to-End Contextual
Biasing", Interspeech 2019). It needs no training, so every model takes hotwords; and it adds to
what the decoder believes, so a word that it does not hear at all is not written. Gain and false
insertions: benchmarks/hotwords.py, docs/decisions/021.
"""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from tiny_audio.model.errors import ConfigError
from tiny_audio.model.prompt import encode_text

# Natural logarithm, added to the first token of a word and to each that goes on with it. A greedy
# decoder cannot take a bonus back when the word ends otherwise, so beginning one costs more.
FIRST_BONUS = 0.5
NEXT_BONUS = 3.0


class Hotwords:
    """A bias of `generation.write`: what to add to which next tokens, given a row's tokens."""

    def __init__(
        self,
        words: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        first: float = FIRST_BONUS,
        following: float = NEXT_BONUS,
    ):
        """Take words or phrases; each is favoured as it is given, and in lower case.

        Raises `ConfigError` for a blank one, `PromptError` where one would be a control token.
        """
        self.bonus = first, following
        self.longest = 0
        self.after: dict[tuple[int, ...], set[int]] = {}  # the beginning of a word → its next token
        self.opening: set[int] = set()  # first tokens where no space stands before the word
        for word in words:
            if not word.strip():
                raise ConfigError("A hotword is blank. Leave it out: --hotwords 'Ada,Grace'.")
            for spelling in {word.strip(), word.strip().lower()}:
                self._add(encode_text(f" {spelling}", tokenizer), self.after.setdefault((), set()))
                self._add(encode_text(spelling, tokenizer), self.opening)

    def _add(self, ids: list[int], first: set[int]) -> None:
        first.add(ids[0])
        self.longest = max(self.longest, len(ids))
        for end in range(1, len(ids)):
            self.after.setdefault(tuple(ids[:end]), set()).add(ids[end])

    def __call__(self, row: int, tokens: Sequence[int]) -> Mapping[int, float]:
        """Return a bonus for the logits of some next tokens; `row` makes no difference."""
        first, following = self.bonus
        more = dict.fromkeys(self.after[()] if tokens else self.opening, first)
        for length in range(1, min(self.longest, len(tokens) + 1)):
            for token in self.after.get(tuple(tokens[-length:]), ()):
                more[token] = following
        return more
