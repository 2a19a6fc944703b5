"""Showing how an answer was written: every token's probability, and the decoder's attention.

The usual loop writes the answer (`generation.py`). Then the decoder reads prompt and answer once
more, with the slow attention that returns its weights. The query that wrote token i is the position
before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tiny_audio.model.errors import ConfigError
from tiny_audio.model.generation import FinishReason, Written
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import IGNORED, Prompt

ALTERNATIVES = 5


@dataclass(frozen=True)
class Candidate:
    """A token that could have been written."""

    token_id: int
    token: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One token that was written (a stop token too), and what else was likely there."""

    chosen: Candidate
    alternatives: tuple[Candidate, ...]  # the most likely first; `chosen` is one of them
    entropy_bits: float


@dataclass(frozen=True)
class Answer:
    """One prompt and what the decoder wrote.

    `ids` are prompt and answer as the decoder reads them, `labels` what training would score of
    them. `first_position` is where this prompt's audio embeddings begin among those of the trace.
    `attention_KSP` is the mean over heads of each of K layers, from the query that wrote step s to
    this prompt's P audio positions; it sums to less than 1, the rest went to text.
    """

    text: str
    finish_reason: FinishReason
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    labels: tuple[int, ...]
    slots: tuple[tuple[int, int], ...]
    first_position: int
    steps: tuple[Step, ...]
    attention_KSP: Tensor

    @property
    def audio_share(self) -> Tensor:
        """Return the share of the attention that goes to audio."""
        return self.attention_KSP.sum(-1)

    @property
    def attention_on_audio(self) -> Tensor:
        """Return the same attention, normalised over the audio positions."""
        return self.attention_KSP / self.audio_share[..., None].clamp(min=1e-12)

    @property
    def num_positions(self) -> int:
        return self.attention_KSP.shape[-1]


def answer(
    model: AudioLM, prompt: Prompt, embeds_1LD: Tensor, written: Written, first_position: int
) -> Answer:
    """Look at what was `written` for one prompt."""
    tokenizer: Any = model.tokenizer
    logits_SV, attention_KSL = replay(model, embeds_1LD, written.tokens)
    ids = list(written.tokens)
    if written.finish_reason == "stop":
        ids.append(int(logits_SV[len(ids)].argmax()))
    steps = [step(tokenizer, row, chosen) for row, chosen in zip(logits_SV, ids, strict=False)]
    is_audio = torch.zeros(attention_KSL.shape[-1], dtype=torch.bool)
    for start, length in prompt.slots:
        is_audio[start : start + length] = True
    return Answer(
        text=tokenizer.decode(written.tokens, skip_special_tokens=True).strip(),
        finish_reason=written.finish_reason,
        ids=(*prompt.ids, *ids),
        tokens=tuple(token_text(tokenizer, number) for number in (*prompt.ids, *ids)),
        labels=(*[IGNORED] * len(prompt.ids), *ids),
        slots=tuple(prompt.slots),
        first_position=first_position,
        steps=tuple(steps),
        attention_KSP=attention_KSL[:, : len(steps), is_audio],
    )


def step(tokenizer: PreTrainedTokenizerBase, logits_V: Tensor, chosen: int) -> Step:
    """Return the distribution from which one token was taken."""
    logprobs_V = logits_V.log_softmax(-1)

    def candidate(token_id: int) -> Candidate:
        return Candidate(
            token_id, token_text(tokenizer, token_id), logprobs_V[token_id].exp().item()
        )

    best = logprobs_V.topk(min(ALTERNATIVES, len(logprobs_V))).indices.tolist()
    entropy = torch.special.entr(logprobs_V.exp()).sum().item() / torch.tensor(2.0).log().item()
    return Step(candidate(chosen), tuple(map(candidate, best)), entropy)


@torch.no_grad()
def replay(model: AudioLM, embeds_1LD: Tensor, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return logits (S, V) and attention (layers, S, L + S − 1) of S = tokens + 1 queries.

    All of the prompt but its last position goes into the cache first, so that the attention of long
    prompts is never held: only the rows of the queries that write are.
    """
    decoder: Any = model.language_model
    table: Any = model.get_input_embeddings()
    ids = torch.tensor([list(tokens)], dtype=torch.long, device=embeds_1LD.device)
    queries_1SD = torch.cat([embeds_1LD[:, -1:], table(ids).to(embeds_1LD.dtype)], dim=1)
    length = embeds_1LD.shape[1]
    cache = decoder(inputs_embeds=embeds_1LD[:, :-1], use_cache=True).past_key_values
    places = torch.arange(length - 1, length - 1 + queries_1SD.shape[1], device=ids.device)
    with attending_eagerly(decoder):
        out = decoder(
            inputs_embeds=queries_1SD,
            position_ids=places[None],
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
        )
    if not out.attentions or any(layer is None for layer in out.attentions):
        raise ConfigError(
            "This decoder gives no attention weights; trace a model whose decoder does."
        )
    attention_KSL = torch.stack([layer[0].float().mean(0).cpu() for layer in out.attentions])
    return out.logits[0].float().cpu(), attention_KSL


@contextmanager
def attending_eagerly(decoder: Any) -> Iterator[None]:
    """Switch to eager attention; the faster ones never hold weights to show."""
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def token_text(tokenizer: Any, token_id: int) -> str:
    """Return a token as readable text; a piece of a character stays as the tokenizer spells it."""
    text = tokenizer.decode([token_id], skip_special_tokens=False)
    if not text or "\ufffd" in text:
        text = str(tokenizer.convert_ids_to_tokens(token_id))
    return text.replace(" ", "␣").replace("\n", "⏎")
