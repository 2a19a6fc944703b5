"""The room that a decoder's positions give a prompt with its audio, and the answer behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import PromptError
from tiny_audio.model.generation import token_limit
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import Positions, Stretch, Turn, render

ANSWER_TOKENS = 512  # of an answer, unless another number is asked for or there is less room
# Positions that a prompt with its audio leaves for text, at least: the room of a clip of no length.
LEAST_ROOM = token_limit(0)


class Room:
    """The positions of a model's decoder, shared out between prompt, audio and answer."""

    def __init__(self, model: AudioLM):
        self.model = model
        self._text_tokens = lru_cache(16)(self._count_tokens)

    @property
    def num_positions(self) -> int:
        """Return how many tokens and audio embeddings the decoder was made for."""
        return int(self.model.language_model.config.max_position_embeddings)

    def check(
        self, turns: Sequence[Turn], lengths: Sequence[int], most_tokens: int = LEAST_ROOM
    ) -> None:
        """Refuse a prompt that leaves the decoder no room, before anything is computed.

        `lengths` are those of its clips, in samples. Raises `PromptError`.
        """
        text, audio = self._costs(turns, lengths)
        if text + audio + most_tokens > (positions := self.num_positions):
            room_s = (positions - text - most_tokens) * sum(lengths) / max(1, audio) / SAMPLE_RATE
            fits = f" About {room_s:,.0f} s of audio fit." if audio and room_s > 1 else ""
            raise PromptError(
                f"The prompt takes {text:,} tokens and its audio {audio:,} positions; with "
                f"{most_tokens:,} for the answer they must fit into the decoder's {positions:,}. "
                f"Shorten the text, the audio, or the answer.{fits}"
            )

    def left(self, turns: Sequence[Turn], lengths: Sequence[int], most_tokens: int | None) -> int:
        """Return the most tokens of an answer: as asked for, else what is usual and fits."""
        self.check(turns, lengths, LEAST_ROOM if most_tokens is None else most_tokens)
        left = self.num_positions - sum(self._costs(turns, lengths))
        return most_tokens or min(ANSWER_TOKENS, left)

    def _costs(self, turns: Sequence[Turn], lengths: Sequence[int]) -> tuple[int, int]:
        """Count the tokens of the text (and times of windows) and the positions of the audio."""
        config = self.model.config
        clips = tuple(map(without_audio, map(config.stretches, lengths)))
        return self._text_tokens(tuple(turns), clips), sum(map(config.positions_for, lengths))

    def _count_tokens(self, turns: tuple[Turn, ...], clips: tuple[Positions, ...]) -> int:
        return len(render(turns, clips, self.model.tokenizer, self.model.config.prompt).ids)


def without_audio(positions: Positions) -> Positions:
    """Return a clip in a prompt, or its windows with their times, without audio embeddings."""
    if isinstance(positions, int):
        return 0
    return tuple(Stretch(before, 0) for before, _ in positions)
