"""Decoder pretraining: a small causal LM learns to write what its input spells.

A projector can only steer a frozen decoder that has learnt to follow its input. So most of its
training is transcription of *pseudo-audio*: the sentence's letters, stretched over 50 Hz frames
with errors and pauses, four frames' letter embeddings averaged into one position with noise. What
a projector gives later looks like that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.prepare import pad_prompts
from tiny_audio.model.prompt import (
    AUDIO_TOKEN,
    CHATML,
    IGNORED,
    Prompt,
    PromptConfig,
    Turn,
    render,
    transcription_turns,
)
from tiny_audio.presets import nano

VOCABULARY = 1536
SPECIALS = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", AUDIO_TOKEN]
PROMPT = PromptConfig()
FRAMES_PER_POSITION = 4
SHAPE_STEP = 16  # oneDNN compiles kernels for every new shape; few are better
NEIGHBOURS = {  # letters that sound alike, for the errors of pseudo-audio
    **dict(zip("bdgvzjpstkfc", "ptkfschzdgvk", strict=True)),
    **dict(zip("aeiouymnrlwqx", "eiauoinmlrvks", strict=True)),
}


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with ChatML as its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
        extra_special_tokens=["<|im_start|>", "<|endoftext|>", AUDIO_TOKEN],
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def new_decoder(tokenizer: Any, seed: int) -> Qwen3ForCausalLM:
    """Make a decoder of about 3.0 M parameters, a third of a million in the tied embedding."""
    torch.manual_seed(seed)
    special = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    config = DecoderConfig(architecture={**nano.DECODER, **special}).hf
    decoder = Qwen3ForCausalLM(config)
    decoder.set_attn_implementation("eager")
    return decoder


class Row(NamedTuple):
    """A rendered example; `letters` are its pseudo-audio's frames ("" is silence), 4 a position."""

    prompt: Prompt
    letters: list[str]


class RowBatch(NamedTuple):
    """Padded rows; for every audio position of all rows 4 letter ids (-1: silence)."""

    ids_BL: Tensor
    mask_BL: Tensor
    labels_BL: Tensor
    letters_P4: Tensor
    seed: int


def pseudo_frames(text: str, rng: random.Random, errors: float = 0.06) -> list[str]:
    """Return a letter (or "", silence) for every 20 ms: 75 ms a letter, with slips and pauses."""
    pace = rng.uniform(0.6, 1.5)
    frames = [""] * rng.randint(0, 12)
    for letter in text:
        draw = rng.random() / errors
        if draw < 0.25:
            continue
        if draw < 0.85:
            letter = NEIGHBOURS.get(letter, letter)
        elif draw < 1.0:
            letter += rng.choice("aeiouhrt")
        for heard in letter:
            length = max(1, round(rng.gammavariate(6, 3.7 * pace / 6)))
            sounding = rng.randint(max(1, length // 3), length)
            frames += [heard] * sounding + [""] * (length - sounding)
        if letter == " " and rng.random() < 0.1:
            frames += [""] * rng.randint(3, 25)
    frames += [""] * rng.randint(0, 12)
    return frames + [""] * (-len(frames) % FRAMES_PER_POSITION)


def misspell(text: str, rng: random.Random) -> str:
    """Double, drop or exchange letters for neighbours, and lose a space now and then."""
    written = []
    for letter in text:
        draw = rng.random()
        written.append(
            "" if draw < 0.04 else letter * 2 if draw < 0.08
            else NEIGHBOURS.get(letter, "") if draw < 0.13 else letter
        )  # fmt: skip
    return "".join(written)


def example(text: str, tokenizer: Any, rng: random.Random) -> Row:
    """Draw a training row: pseudo-audio 82 %, repair 8 %, continuation 6 %, silence 4 %."""
    draw = rng.random()
    if draw < 0.82:
        return heard(text, pseudo_frames(text, rng), tokenizer)
    if draw < 0.86:
        return heard("", [""] * 4 * rng.randint(1, 60), tokenizer)
    if draw < 0.94:
        turns = [Turn("user", f"Repair: {misspell(text, rng)}"), Turn("assistant", text)]
    else:
        words = text.split()
        cut = rng.randint(0, len(words) - 1)
        said, rest = " ".join(words[:cut]), " ".join(words[cut:])
        turns = [Turn("user", f"Continue: {said}"), Turn("assistant", rest)]
    return Row(render(turns, [], tokenizer, PROMPT), [])


def heard(text: str, frames: list[str], tokenizer: Any) -> Row:
    frames = frames or [""] * FRAMES_PER_POSITION
    return Row(answered(text, len(frames) // FRAMES_PER_POSITION, tokenizer), frames)


def collate_rows(rows: Sequence[Row], tokenizer: Any, seed: int) -> RowBatch:
    """Right-padded batch."""
    letter_ids = [letter_id(f, tokenizer) for row in rows for f in row.letters]
    letters_P4 = torch.tensor(letter_ids, dtype=torch.long).view(-1, FRAMES_PER_POSITION)
    return RowBatch(*pad_answers([row.prompt for row in rows], tokenizer), letters_P4, seed)


def answered(text: str, positions: int, tokenizer: Any) -> Prompt:
    """Render the prompt of a transcription and its answer."""
    turns = [*transcription_turns(PROMPT), Turn("assistant", text)]
    return render(turns, [positions], tokenizer, PROMPT)


def pad_answers(prompts: Sequence[Prompt], tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids_BL, mask_BL and labels_BL, padded on the right to one of a few lengths."""
    batch = pad_prompts(prompts, tokenizer.pad_token_id, "right", SHAPE_STEP)
    return batch["input_ids"], batch["attention_mask"], batch["labels"]


def letter_id(letter: str, tokenizer: Any) -> int:
    return tokenizer.convert_tokens_to_ids("Ġ" if letter == " " else letter) if letter else -1


def pseudo_audio(batch: RowBatch, table: nn.Embedding) -> Tensor:
    """Return (P, D): means of four frames' letter embeddings, with noise; silence is zero."""
    sounding = (batch.letters_P4 >= 0)[..., None]
    embeds = table(batch.letters_P4.clamp(min=0)) * sounding
    generator = torch.Generator().manual_seed(batch.seed)
    noise = torch.randn(embeds[:, 0].shape, generator=generator)
    scale = table.weight.detach().square().mean().sqrt()
    level = 0.5 * torch.rand(len(noise), 1, generator=generator)
    return embeds.mean(1) + noise * scale * level


def row_loss(decoder: Qwen3ForCausalLM, batch: RowBatch, audio_id: int) -> tuple[Tensor, int]:
    """Return the cross-entropy, summed over supervised tokens, and their number."""
    table = decoder.get_input_embeddings()
    embeds_BLD = table(batch.ids_BL)
    is_audio = batch.ids_BL == audio_id
    if is_audio.any():
        audio_PD = pseudo_audio(batch, table)
        embeds_BLD = embeds_BLD.index_put(torch.where(is_audio), audio_PD.to(embeds_BLD.dtype))
    return answer_loss(decoder, embeds_BLD, batch.mask_BL, batch.labels_BL)


def answer_loss(
    decoder: Qwen3ForCausalLM, embeds_BLD: Tensor, mask_BL: Tensor, labels_BL: Tensor
) -> tuple[Tensor, int]:
    """Compute the loss. Logits are made for supervised positions only, a quarter of all."""
    hidden_BLD = decoder.model(inputs_embeds=embeds_BLD, attention_mask=mask_BL).last_hidden_state
    targets_BL = labels_BL[:, 1:]
    supervised = targets_BL != IGNORED
    hidden_SD, targets_S = hidden_BLD[:, :-1][supervised], targets_BL[supervised]
    hidden_SD = F.pad(hidden_SD, (0, 0, 0, -len(hidden_SD) % 128))  # see `SHAPE_STEP`
    logits_SV = decoder.lm_head(hidden_SD)[: len(targets_S)].float()
    return F.cross_entropy(logits_SV, targets_S, reduction="sum"), len(targets_S)


class DecoderTask(nn.Module):
    """Batches and loss of decoder pretraining; `text(rng)` gives a sentence and its kind."""

    def __init__(
        self, decoder: Qwen3ForCausalLM, tokenizer: Any, text: Callable[[random.Random], Any]
    ):
        super().__init__()
        self.decoder = decoder
        self.tokenizer, self.text = tokenizer, text
        self.audio_id = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)

    def rows(self, seed: int, step: int, count: int) -> RowBatch:
        """Draw four times as many rows, and take neighbours in length, for less padding."""
        rng = random.Random(f"rows/{seed}/{step}")
        texts = sorted((self._sentence(rng) for _ in range(4 * count)), key=len)
        start = rng.randrange(3 * count + 1)
        rows = [example(t, self.tokenizer, rng) for t in texts[start : start + count]]
        return collate_rows(rows, self.tokenizer, seed + step)

    def _sentence(self, rng: random.Random) -> str:
        text = self.text(rng)[0]
        return f"{text} {self.text(rng)[0]}" if rng.random() < 0.12 else text

    def loss(self, batch: RowBatch) -> tuple[Tensor, int]:
        return row_loss(self.decoder, batch, self.audio_id)
