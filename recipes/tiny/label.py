"""Whisper tiny.en writes what is said in clips that have no transcript.

Several clips share a window of 30 seconds, with pauses between them, since Whisper computes 30
seconds for any clip; its times say which text belongs to which clip. A text is kept if each of its
pieces lies in one clip, Whisper was sure of it, and it consists of plain words.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recipes.tiny.paths import RUNS
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.features import log_mel
from tiny_audio.parts.convert import convert
from tiny_audio.presets import preset
from tiny_audio.train.hardware import multiplies_bf16

PAUSE_S, WINDOW_S, BATCH = 0.9, 29.0, 16
MOST_TOKENS = 220
LEAST_LOGPROB = -0.65  # mean over the tokens of a clip
RATES = (3.0, 26.0)  # letters a second that people speak
OVERLAP_S = 0.35  # of a piece with a second clip; with more, the piece belongs to neither
PLAIN = re.compile(r"[A-Z][A-Za-z ,'.!?\-]*[.?!]")


class Piece(NamedTuple):
    start_s: float
    end_s: float
    text: str
    logprob: float  # mean of its tokens


class Labeller:
    """The whole Whisper model, from the preset's package."""

    def __init__(self) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperTokenizerFast
        from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

        folder = whisper_folder()
        dtype = torch.bfloat16 if multiplies_bf16() else torch.float32
        self.model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        self.tokenizer = WhisperTokenizerFast.from_pretrained(folder)
        self.first_time = self.tokenizer.convert_tokens_to_ids("<|notimestamps|>") + 1
        self.end = self.tokenizer.eos_token_id
        self.rules = WhisperTimeStampLogitsProcessor(self.model.generation_config, begin_index=1)

    def write(self, clips: list[np.ndarray]) -> list[str]:
        """Write a text for each clip; "" where Whisper is not sure."""
        found = [""] * len(clips)
        windows = packed(clips)
        for at in range(0, len(windows), BATCH):
            some = windows[at : at + BATCH]
            for places, pieces in zip(some, self.pieces(some, clips), strict=True):
                for number, text in assigned(places, pieces).items():
                    found[number] = text
        return found

    @torch.no_grad()
    def pieces(self, windows: list["Places"], clips: list[np.ndarray]) -> list[list[Piece]]:
        mels = torch.stack([log_mel(torch.from_numpy(mixed(w, clips)), 80) for w in windows])
        frames_BTE = self.model.model.encoder(mels.to(self.model.dtype)).last_hidden_state
        ids_BL = torch.full((len(windows), 1), self.model.config.decoder_start_token_id)
        logprobs: list[Tensor] = []
        step: Any = None
        while ids_BL.shape[1] < MOST_TOKENS and not bool((ids_BL[:, -1] == self.end).all()):
            step = self.model(
                encoder_outputs=(frames_BTE,), decoder_input_ids=ids_BL[:, -1:], use_cache=True,
                past_key_values=step.past_key_values if step else None,
            )  # fmt: skip
            scores_BV = self.rules(ids_BL, step.logits[:, -1].float()).log_softmax(-1)
            best_B, next_B = scores_BV.max(-1)
            ended_B = (ids_BL[:, -1] == self.end) & (ids_BL.shape[1] > 1)
            ids_BL = torch.cat([ids_BL, next_B.where(~ended_B, self.end)[:, None]], 1)
            logprobs.append(best_B)
        pairs = zip(ids_BL[:, 1:].tolist(), torch.stack(logprobs, 1).tolist(), strict=True)
        return [self.split(*pair) for pair in pairs]

    def split(self, ids: list[int], logprobs: list[float]) -> list[Piece]:
        """Return the pieces between two times; a piece without an end is left out."""
        pieces, start, inside = [], None, list[tuple[int, float]]()
        for token, logprob in zip(ids, logprobs, strict=True):
            if token >= self.first_time:
                time_s = (token - self.first_time) * 0.02
                if start is not None and inside:
                    text = self.tokenizer.decode([t for t, _ in inside]).strip()
                    mean = sum(p for _, p in inside) / len(inside)
                    pieces.append(Piece(start, time_s, text, mean))
                start, inside = time_s, []
            elif token < self.end:
                inside.append((token, logprob))
        return pieces


Places = list[tuple[int, float, float]]  # number of a clip, its start and its end in the window


def packed(clips: list[np.ndarray]) -> list[Places]:
    """Place clips in windows, in order, as many as fit."""
    windows: list[Places] = [[]]
    at = 0.3
    for number, clip in enumerate(clips):
        seconds = len(clip) / SAMPLE_RATE
        if windows[-1] and at + seconds > WINDOW_S:
            windows.append([])
            at = 0.3
        windows[-1].append((number, at, at + seconds))
        at += seconds + PAUSE_S
    return windows


def mixed(places: Places, clips: list[np.ndarray]) -> np.ndarray:
    """Return the window's samples, with all clips at the same level."""
    window = np.zeros(30 * SAMPLE_RATE, np.float32)
    for number, start_s, _ in places:
        clip = clips[number]
        start = int(start_s * SAMPLE_RATE)
        loud = max(1e-4, float(np.sqrt((clip**2).mean())))
        window[start : start + len(clip)] = np.clip(clip * (0.06 / loud), -1, 1)
    return window


def assigned(places: Places, pieces: list[Piece]) -> dict[int, str]:
    """Return texts of clips: of one clip alone, sure, plain, and spoken at a human rate."""
    found: dict[int, list[Piece]] = {}
    unknown: set[int] = set()
    for piece in pieces:
        shared = {
            number: min(piece.end_s, end_s) - max(piece.start_s, start_s)
            for number, start_s, end_s in places
        }
        ours = [number for number, seconds in shared.items() if seconds > OVERLAP_S]
        best = max(shared, key=lambda number: shared[number])
        if shared[best] > 0:
            found.setdefault(best, []).append(piece)
        unknown.update(ours if len(ours) > 1 else [])
    seconds = {number: end_s - start_s for number, start_s, end_s in places}
    texts = {n: plain_text(" ".join(p.text for p in own)) for n, own in found.items()}
    return {
        number: texts[number]
        for number, own in found.items()
        if number not in unknown
        and min(p.logprob for p in own) > LEAST_LOGPROB
        and RATES[0] < len(texts[number]) / seconds[number] < RATES[1]
    }


def plain_text(text: str) -> str:
    """Return the text with simple marks; "" if it holds digits, foreign letters or no sentence."""
    text = text.replace("’", "'").replace("...", ".").replace("…", ".")
    text = re.sub(r"\s*[;:—–]\s*|\s+-+\s+|--+", ", ", text).strip(" ,-")
    text = re.sub(r"\s+", " ", text)
    text = text[:1].upper() + text[1:]
    text = text if text.endswith((".", "?", "!")) else text + "."
    return text if PLAIN.fullmatch(text) and len(text) > 2 else ""


def whisper_folder() -> Path:
    """Return the folder of the whole Whisper tiny.en in the Hub's layout, converted once."""
    folder = RUNS / "whisper"
    if not folder.is_dir():
        convert(preset("tiny").encoder.source, folder, torch.float32)
    return folder
