"""A CTC head on audio embeddings, which scores the decoder's own tokens without the decoder.

Its scores are products of audio embeddings with the decoder's embedding table, so a projector that
learns under it puts audio embeddings where the embeddings of the spoken tokens lie (the CTC start
of `recipes/tiny`; compare LegoSLM, arXiv 2505.11352). Beside a language model it judges the texts
of a beam search. A folder holds `config.json`, which says by hash to which encoder and projector
the head belongs, and `head.safetensors`.

Letters: B clips, P audio embeddings of D values, C tokens that compete and the blank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tiny_audio.files import read_json
from tiny_audio.infer.ctc_head import CONFIG, collapsed, fill, write_head
from tiny_audio.model.config import StrictConfig, fingerprint
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import CheckpointError, ConfigError
from tiny_audio.model.identity import encoder_key, weights_hash
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import SHIPPED

FOLDER = "tokens"  # of a checkpoint, where the head lies
LIKELY = 0.02  # probability from which a token may be in a clip


@dataclass(frozen=True, kw_only=True)
class TokenHeadConfig(StrictConfig):
    """The configuration of a token head. `audio` is the identity of the encoder and the projector
    whose embeddings it reads.
    """

    num_tokens: int
    vocabulary: int
    width: int
    audio: str


class TokenHead(nn.Module):
    """Turns audio embeddings into log-probabilities of a blank and of the tokens that it knows.

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
        """Return an untrained head for a decoder's table; its blank is like a random token."""
        head = cls(len(tokens_V), *table_VD.shape)
        head.tokens_V.copy_(tokens_V)
        head.power.copy_(table_VD.float().square().sum(-1).mean())
        nn.init.normal_(head.blank, std=float(table_VD.float().std()))
        return head

    def scores(self, audio_BPD: Tensor, table_VD: Tensor, tokens_C: Tensor) -> Tensor:
        """Return logits (B, P, 1 + C) in float32; class 0 is the blank."""
        rows = torch.cat([self.blank[None], table_VD[tokens_C].to(self.blank.dtype)])
        bias = torch.cat([self.bias[-1:], self.bias[tokens_C]])
        return (audio_BPD @ rows.T * (self.scale / self.power)).float() + bias

    def forward(self, audio_BPD: Tensor, table_VD: Tensor) -> Tensor:
        """Return log-probabilities (B, P, 1 + V) over all tokens that the head knows.

        These are `scores` of all its tokens; the whole table is multiplied, since to gather its
        rows for every clip takes longer.
        """
        known_BPC = (audio_BPD.to(table_VD.dtype) @ table_VD.T)[..., self.tokens_V]
        blank_BP1 = (audio_BPD @ self.blank)[..., None]
        products_BPC = torch.cat([blank_BP1, known_BPC.to(audio_BPD.dtype)], -1)
        bias_C = torch.cat([self.bias[-1:], self.bias[self.tokens_V]])
        scaled_BPC = torch.addcmul(bias_C, products_BPC.float(), self.scale / self.power)
        return scaled_BPC.log_softmax(-1)

    def best_paths(self, log_probs_BPC: Tensor, lengths_B: Tensor) -> list[list[int]]:
        """Return the decoder's token ids on every clip's best path, collapsed."""
        rows = zip(log_probs_BPC.argmax(-1).tolist(), lengths_B.tolist(), strict=True)
        paths = [collapsed(row[:length]) for row, length in rows]
        return [[int(self.tokens_V[label - 1]) for label in path] for path in paths]

    def likely(self, log_probs_PC: Tensor) -> list[int]:
        """Return the token ids that have at least `LIKELY` at some position of one clip."""
        most_C = log_probs_PC[:, 1:].amax(0)
        return [int(token) for token in self.tokens_V[(most_C > math.log(LIKELY)).cpu()]]

    def save(self, folder: Path, model: AudioLM) -> None:
        """Write the folder of the head that belongs to `model`, its trained part in bfloat16."""
        config = TokenHeadConfig(
            num_tokens=len(self.tokens_V),
            vocabulary=len(self.bias) - 1,
            width=len(self.blank),
            audio=audio_id(model),
        )
        write_head(self, folder, config)

    @classmethod
    def from_pretrained(cls, folder: Path, model: AudioLM) -> TokenHead:
        """Load the head in float32 on the model's device; `CheckpointError` for another's."""
        config = read_config(folder)
        if config.audio != audio_id(model):
            raise CheckpointError(
                f"{folder} is a token head for another encoder or projector. Remove the folder: "
                f"without it, --ctc-weight uses the character head."
            )
        table: Any = model.get_input_embeddings()
        if (config.vocabulary, config.width) != table.weight.shape or (
            config.num_tokens > config.vocabulary
        ):
            raise CheckpointError(f"{folder} is a token head for another decoder's vocabulary.")
        head = cls(config.num_tokens, config.vocabulary, config.width)
        fill(head, folder)
        return head.to(model.device).eval()


def load_token_head(model: AudioLM, checkpoint: Path | None = None) -> TokenHead | None:
    """Load the token head in `tokens/` of the checkpoint, else the package's own, if any.

    Raises `CheckpointError` where the checkpoint's head belongs to another encoder or projector.
    """
    if checkpoint is not None and (checkpoint / FOLDER / CONFIG).is_file():
        return TokenHead.from_pretrained(checkpoint / FOLDER, model)
    heads = [folder / FOLDER for folder in SHIPPED.values()]
    heads = [head for head in heads if (head / CONFIG).is_file()]
    own = audio_id(model) if heads else ""
    fitting = (head for head in heads if read_config(head).audio == own)
    return next((TokenHead.from_pretrained(head, model) for head in fitting), None)


def read_config(folder: Path) -> TokenHeadConfig:
    try:
        return TokenHeadConfig.from_dict(read_json(folder / CONFIG, "Copy the head again."))
    except ConfigError as error:
        raise CheckpointError(f"{folder} is no token head: {error}") from error


def audio_id(model: AudioLM) -> str:
    """Return the identity of all that makes audio embeddings: encoder and projector."""
    encoder = encoder_key(model.audio_tower)
    return fingerprint({"encoder": encoder, "projector": weights_hash(model.projector, set())})


@torch.inference_mode()
def token_log_probs(head: TokenHead, model: AudioLM, samples_N: Tensor) -> Tensor:
    """Return log-probabilities (P, 1 + V) of the head for one clip of one window."""
    audio = model.embed_audio(features(model.config.encoder, [samples_N.to(model.device)]))
    table: Any = model.get_input_embeddings()
    return head(audio.audio_BPD[0].to(head.blank.dtype), table.weight)


def best_path(head: TokenHead, model: AudioLM, samples_N: Tensor) -> list[int]:
    """Return the tokens that the head alone writes for one clip of one window."""
    scores_PC = token_log_probs(head, model, samples_N)
    return head.best_paths(scores_PC[None], torch.tensor([len(scores_PC)]))[0]
