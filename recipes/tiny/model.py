"""The two models that train: the CTC start, and the decoder that reads its audio embeddings.

`CtcStart` is encoder, projector and two CTC heads: one spells characters off the frames (it becomes
the preset's head for word times), the other writes the decoder's own tokens off the audio
embeddings. Its scores are products with the decoder's embedding table, so audio embeddings arrive
in the cloud of word embeddings, in order, before the decoder sees any (LegoSLM, arXiv 2505.11352).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.tiny.clips import Batch
from recipes.tiny.decoder import AdaptedLlama
from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, encode_characters, spell
from tiny_audio.infer.token_head import TokenHead
from tiny_audio.model.features import Features
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prompt import render, stop_ids, transcription_turns
from tiny_audio.train.loop import Losses

FROZEN = ("conv", "embed_positions", "layers.0.")  # layers of the encoder that stay Whisper's
CHARACTER_WEIGHT = 0.5
NUM_CLASSES = 3072  # tokens that compete in one step: those of the texts, and others at random
PAD_TO = 16  # prompt lengths are padded to multiples of it, rows of the vocabulary to 128


class CtcStart(nn.Module):
    """Encoder and projector under two CTC losses."""

    def __init__(self, model: AudioLM, used_tokens: Tensor):
        super().__init__()
        self.encoder, self.projector = model.audio_tower, model.projector
        self.tokenizer = model.tokenizer
        self.head = CtcHead(CtcHeadConfig(width=model.config.encoder.width, encoder=""))
        embeddings: Any = model.get_input_embeddings()
        self.table = embeddings.weight.detach().float()  # frozen, on the CPU, in no save
        self.token_head = TokenHead.fresh(used_tokens, self.table)
        self.encoder.freeze(False)
        for name, parameter in self.encoder.model.named_parameters():
            if name.startswith(FROZEN):
                parameter.requires_grad_(False)

    def embed(self, features: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """frames_BTE and lengths_B, audio_BPD and lengths_B."""
        frames_BTE, lengths_B = self.encoder(features)
        return frames_BTE, lengths_B, *self.projector(frames_BTE.float(), lengths_B)

    def classes(self, ids: list[list[int]]) -> tuple[Tensor, dict[int, int]]:
        """Return the tokens of these texts, with random others, and the class of each token."""
        own = sorted({token for row in ids for token in row})
        used = self.token_head.tokens_V.long()
        others = used[torch.randint(len(used), (NUM_CLASSES,))]
        others = others[~torch.isin(others, torch.tensor(own or [0]))]
        chosen = torch.cat([torch.tensor(own, dtype=torch.long), others])[:NUM_CLASSES]
        return chosen, {token: at + 1 for at, token in enumerate(own)}

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, int, tuple[Tensor, Tensor]]:
        """Return mean CTC losses a token and a character, tokens, audio embeddings, lengths."""
        frames_BTE, lengths_B, audio_BPD, positions_B = self.embed(batch.features())
        ids = [self.tokenizer.encode(text, add_special_tokens=False) for text in batch.texts]
        chosen, number = self.classes(ids)
        targets = [[number[token] for token in row] for row in ids]
        log_probs = self.token_head.scores(audio_BPD, self.table, chosen).log_softmax(-1)
        tokens = ctc_mean(log_probs, positions_B, targets)
        spelled = [encode_characters(spell(text)) for text in batch.texts]
        characters = ctc_mean(self.head(frames_BTE, lengths_B), lengths_B, spelled)
        return tokens, characters, max(1, sum(map(len, ids))), (audio_BPD, positions_B)

    def forward(self, batch: Batch) -> Losses:
        tokens, characters, count, _ = self.losses(batch)
        return Losses((tokens + CHARACTER_WEIGHT * characters) * count, count)

    def transcribe(self, audio_BPD: Tensor, positions_B: Tensor) -> list[str]:
        """Return the texts of the best paths over all used tokens."""
        log_probs_BPC = self.token_head(audio_BPD, self.table)
        paths = self.token_head.best_paths(log_probs_BPC, positions_B)
        return [self.tokenizer.decode(path) for path in paths]


def ctc_mean(log_probs_BTC: Tensor, lengths_B: Tensor, targets: list[list[int]]) -> Tensor:
    """Return the CTC loss per label; a text with more labels than positions counts 0."""
    sizes_B = torch.tensor([len(row) for row in targets])
    flat = torch.tensor([label for row in targets for label in row], dtype=torch.long)
    found_B = F.ctc_loss(
        log_probs_BTC.transpose(0, 1), flat, lengths_B, sizes_B, reduction="none",
        zero_infinity=True,
    )  # fmt: skip
    return found_B.sum() / max(1, int(sizes_B.sum()))


class Reader(nn.Module):
    """The decoder with adapters, reading what `CtcStart` makes; both CTC losses stay as anchors."""

    def __init__(self, start: CtcStart, model: AudioLM, rank: int):
        super().__init__()
        self.start, self.config = start, model.config
        self.decoder = AdaptedLlama(model.language_model, rank)
        self.before, self.after = self.frame(model)
        self.end = stop_ids(model.tokenizer, model.config.prompt)[0]

    @staticmethod
    def frame(model: AudioLM) -> tuple[list[int], list[int]]:
        """Return the prompt's ids before and after the audio."""
        config = model.config.prompt
        prompt = render(transcription_turns(config), [1], model.tokenizer, config)
        at = prompt.slots[0][0]
        return prompt.ids[:at], prompt.ids[at + 1 :]

    def rows(
        self, audio_BPD: Tensor, positions_B: Tensor, ids: list[list[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return prompt embeddings (B, L, D), padded behind, and labels (B, L), shifted by one."""
        look_up: Any = self.decoder.embed
        before, after = look_up(torch.tensor(self.before)), look_up(torch.tensor(self.after))
        counts = positions_B.tolist()
        around = len(before) + len(after)
        longest = max(around + n + len(row) for n, row in zip(counts, ids, strict=True))
        longest += -longest % PAD_TO
        labels_BL = torch.full((len(ids), longest), -100)
        embeds = []
        for number, (row, count) in enumerate(zip(ids, counts, strict=True)):
            text = look_up(torch.tensor(row, dtype=torch.long))
            audio = audio_BPD[number, :count].to(text.dtype)
            whole = torch.cat([before, audio, after, text])
            embeds.append(F.pad(whole, (0, 0, 0, longest - len(whole))))
            answer = torch.tensor([*row, self.end])
            start = around + count - 1
            labels_BL[number, start : start + len(answer)] = answer
        return torch.stack(embeds), labels_BL

    def forward(self, batch: Batch) -> Losses:
        tokens, characters, _, (audio_BPD, positions_B) = self.start.losses(batch)
        ids = [self.start.tokenizer.encode(text, add_special_tokens=False) for text in batch.texts]
        embeds_BLD, labels_BL = self.rows(audio_BPD, positions_B, ids)
        hidden_BLD = self.decoder(embeds_BLD)
        chosen = labels_BL != -100
        rows, labels = hidden_BLD[chosen], labels_BL[chosen]
        logits = self.decoder.logits(F.pad(rows, (0, 0, 0, -len(rows) % 128)))[: len(labels)]
        loss = F.cross_entropy(logits.float(), labels)
        correct = int((logits.argmax(-1) == labels).sum())
        return Losses((loss + 0.25 * tokens + 0.1 * characters) * len(labels), len(labels), correct)
