"""A CTC head on audio embeddings: scores the decoder's own tokens, without the decoder.

Its scores are products of audio embeddings with the decoder's embedding table, so a projector that
learns under it puts audio embeddings where the embeddings of the spoken tokens lie (the CTC start
of `recipes/tiny`; compare LegoSLM, arXiv 2505.11352). Beside a language model it judges the texts
of a beam search.

Letters: B clips, P audio embeddings of D values, C tokens that compete and the blank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenHead(nn.Module):
    """Audio embeddings → log-probabilities of a blank and of the tokens that the head knows.

    `tokens_V` are those tokens' ids, ascending; `power` is the mean squared norm of an embedding
    row. The table itself is the decoder's and is given with each call.
    """

    tokens_V: Tensor
    power: Tensor

    def __init__(self, num_tokens: int, vocabulary: int, width: int):
        super().__init__()
        self.register_buffer("tokens_V", torch.zeros(num_tokens, dtype=torch.int32))
        self.register_buffer("power", torch.ones(()))
        self.scale = nn.Parameter(torch.tensor(6.0))
        self.blank = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary + 1))  # the last one is the blank's

    @classmethod
    def fresh(cls, tokens_V: Tensor, table_VD: Tensor) -> TokenHead:
        """An untrained head for a decoder's embedding table; its blank is like a random token."""
        head = cls(len(tokens_V), *table_VD.shape)
        head.tokens_V.copy_(tokens_V)
        head.power.copy_(table_VD.float().square().sum(-1).mean())
        nn.init.normal_(head.blank, std=float(table_VD.float().std()))
        return head

    def scores(self, audio_BPD: Tensor, table_VD: Tensor, tokens_C: Tensor) -> Tensor:
        """Logits (B, P, 1 + C) in float32; class 0 is the blank."""
        rows = torch.cat([self.blank[None], table_VD[tokens_C].to(self.blank.dtype)])
        bias = torch.cat([self.bias[-1:], self.bias[tokens_C]])
        return (audio_BPD @ rows.T * (self.scale / self.power)).float() + bias

    def forward(self, audio_BPD: Tensor, table_VD: Tensor) -> Tensor:
        """Log-probabilities (B, P, 1 + V) over all tokens that the head knows."""
        return self.scores(audio_BPD, table_VD, self.tokens_V).log_softmax(-1)

    def best_paths(self, log_probs_BPC: Tensor, lengths_B: Tensor) -> list[list[int]]:
        """The decoder's token ids on every clip's best path, collapsed."""
        rows = zip(log_probs_BPC.argmax(-1).tolist(), lengths_B.tolist(), strict=True)
        return [self.collapsed(row[:length]) for row, length in rows]

    def collapsed(self, classes: Sequence[int]) -> list[int]:
        kept = [c for c, before in zip(classes, [0, *classes], strict=False) if c and c != before]
        return [int(self.tokens_V[c - 1]) for c in kept]
