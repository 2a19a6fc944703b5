"""Train `tiny`: `python -m recipes.tiny.train ctc`, then `python -m recipes.tiny.train decoder`.

Both stages use the package's loop: they save every three minutes, go on where they stopped when
the same line is typed again, and write their log to runs/tiny/STAGE/log.jsonl. Every process
computes on one core, and another beside it prepares its clips; `--minutes` decides the length and
with it the schedule.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.nano.sources import shared_data
from recipes.tiny.clips import Batch, Clip, Mix, Store, batches
from recipes.tiny.model import CtcStart, Reader
from recipes.tiny.paths import CORPUS, RUNS
from recipes.tiny.texts import Texts, is_held_out
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.evaluate.normalize import normalizer
from tiny_audio.infer.ctc_head import CtcHead
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.encoder import features
from tiny_audio.model.modeling import AudioLM
from tiny_audio.presets import SHIPPED, build, load, preset
from tiny_audio.train.distributed import gather_dealt, launch, rank, world_size
from tiny_audio.train.hardware import multiplies_bf16
from tiny_audio.train.loop import Loop, LoopConfig
from tiny_audio.train.saves import last_save, restore

TRAILING_S = 0.3  # of silence behind evaluated clips: recordings are often cut at the last sound
WATCHED = 100
CTC_RATES = {"": 8e-4, "encoder": 1.5e-4, "bias": 3e-3}
AGAIN = 0.5  # of these rates where training goes on from the preset
DECODER_RATES = {"decoder": 7e-4, "start": 1.5e-4, "start.encoder": 3e-5}


def pretrained() -> AudioLM:
    """Return the preset's parts in float32; the decoder in bfloat16 where that is faster."""
    torch.manual_seed(0)
    model = build("tiny", dtype=torch.bfloat16 if multiplies_bf16("cpu") else torch.float32)
    model.audio_tower.model.float()
    model.projector.float()
    return model


@torch.no_grad()
def shipped_weights(start: CtcStart) -> None:
    """Begin with what the preset holds: encoder, projector and both heads."""
    folder = SHIPPED["tiny"]
    trained = load(folder)
    start.encoder.load_state_dict(trained.audio_tower.state_dict())
    start.projector.load_state_dict(trained.projector.state_dict())
    head = CtcHead.from_pretrained(folder / "ctc", trained.audio_tower)
    start.head.load_state_dict(head.state_dict())
    stored = load_file(folder / "tokens" / "head.safetensors")
    for name, parameter in start.token_head.named_parameters():
        parameter.copy_(stored[name])


@torch.no_grad()
def shipped_adapters(reader: Reader) -> None:
    """Begin with the preset's adapters."""
    stored = dict(load(SHIPPED["tiny"]).language_model.named_parameters())
    for name, parameter in reader.decoder.peft_names().items():
        parameter.copy_(stored[name])


def used_tokens(model: AudioLM) -> Tensor:
    """Return the decoder's tokens that occur in the texts of the corpus."""
    texts = Texts(shared_data())
    found: set[int] = set()
    for lines in texts.lists.values():
        for line in lines:
            found.update(model.tokenizer.encode(line, add_special_tokens=False))
    return torch.tensor(sorted(found))


def watched() -> dict[str, list[Clip]]:
    """Held-out readers of speechocean762, sentences that no voice read for training, and lines of
    actors that are not trained on (their texts are Whisper's).
    """
    readers = Store(CORPUS / "held")
    numbers = [n for n, r in enumerate(readers.rows) if r[2]["engine"] == "speechocean762"]
    spoken = Store(CORPUS / "shards")
    unread, lines = (
        [
            n
            for n, (_, _, row) in enumerate(spoken.rows)
            if row["engine"] in engines and is_held_out(row["text"])
        ]
        for engines in (("hibari", "joe"), ("adventure",))
    )
    return {
        "readers": [readers.clip(n) for n in numbers[:: max(1, len(numbers) // WATCHED)]],
        "sentences": [spoken.clip(n) for n in unread[:WATCHED]],
        "actors": [spoken.clip(n) for n in lines[:WATCHED]],
    }


def word_error_rates(write: Callable[[Sequence[Tensor]], list[str]]) -> dict[str, Any]:
    """WER of each watched set, and a few of the texts; each process writes every n-th clip."""
    plain, found = normalizer(), dict[str, Any]()
    for name, clips in watched().items():
        clips = sorted(clips, key=lambda clip: len(clip.samples))
        silence = torch.zeros(int(TRAILING_S * 16_000))
        sounds = [torch.cat([torch.from_numpy(clip.samples), silence]) for clip in clips]
        own = sounds[rank() :: world_size()]
        written = [t for at in range(0, len(own), 25) for t in write(own[at : at + 25])]
        texts = gather_dealt(written)
        counted = word_errors([plain(c.text) for c in clips], [plain(text) for text in texts])
        found[f"wer_{name}"] = counted["wer"]
        found[f"texts_{name}"] = [[c.text, t] for c, t in zip(clips, texts, strict=True)][::33]
    return found


def stream(mix: Mix, seed: int, core: int | None) -> Callable[[dict], Iterator[Any]]:
    """Yield batches of a run; after a stop they are drawn with another seed.

    With several processes, each has seeds and (from `core` on) a core of its own.
    """
    seed += 100_000 * rank()
    core = None if core is None else core + rank()

    def steps(state: dict[str, Any]) -> Iterator[tuple[list[Batch], dict[str, Any]]]:
        count = state.get("batches", 0)
        for batch in batches(mix, seed + count, core):
            count += 1
            yield [batch], {"batches": count}

    return steps


def loop_config(rates: dict[str, float], minutes: float, evaluate_every_s: float) -> LoopConfig:
    return LoopConfig(
        rates=rates,
        budget_s=60 * minutes,
        warmup_steps=100,
        final_rate=0.03,
        bf16=multiplies_bf16("cpu"),
        evaluate_every_s=evaluate_every_s,
        log_every=25,
    )


def train_ctc(minutes: float, core: int | None, go_on: bool) -> None:
    """Train encoder, projector and heads, without the language model."""
    model = pretrained()
    start = CtcStart(model, used_tokens(model))
    if go_on:
        shipped_weights(start)
    rates = {part: rate * (AGAIN if go_on else 1) for part, rate in CTC_RATES.items()}
    loop = Loop(start, loop_config(rates, minutes, 600.0), RUNS / "ctc")
    loop.resume()

    def write(clips: Sequence[Tensor]) -> list[str]:
        return start.transcribe(*start.embed(features(model.config.encoder, list(clips)))[2:])

    loop.run(stream(Mix(), 1000, core), lambda: word_error_rates(write))


def train_decoder(minutes: float, core: int | None, begin: Path, go_on: bool) -> None:
    """Train adapters of the decoder, with projector and encoder at low rates."""
    model = pretrained()
    start = CtcStart(model, used_tokens(model))
    restore(start, last_save(begin))
    lora = preset("tiny").lora["decoder"]
    reader = Reader(start, model, lora.rank)
    if go_on:
        shipped_adapters(reader)
    model.add_lora("decoder", lora)  # for evaluation: its weights are copied from the reader's
    for parameter in model.language_model.parameters():
        parameter.requires_grad_(False)
    loop = Loop(reader, loop_config(DECODER_RATES, minutes, 1500.0), RUNS / "decoder")
    loop.resume()
    loop.run(
        stream(Mix(longest_s=25.0, joined=0.10, empty=0.05), 5000, core),
        lambda: word_error_rates(lambda clips: written(model, reader, clips)),
    )


def written(model: AudioLM, reader: Reader, clips: Sequence[Tensor]) -> list[str]:
    """Transcribe clips with the whole model, as users do."""
    with torch.no_grad():
        parameters = dict(model.language_model.named_parameters())
        for name, adapter in reader.decoder.peft_names().items():
            parameters[name].copy_(adapter)
    windows = [Window(0, clip) for clip in clips]
    return [segment.text for segment in Transcriber(model).transcribe_windows(windows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["ctc", "decoder"])
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument(
        "--core",
        type=int,
        help="core of the process that prepares clips; each further pair takes the next core",
    )
    parser.add_argument("--processes", type=int, default=1, help="number that train, one core each")
    parser.add_argument("--begin", type=Path, default=RUNS / "ctc", help="the CTC stage's folder")
    parser.add_argument(
        "--go-on", action="store_true", help="begin with the shipped preset's weights, not afresh"
    )
    options = parser.parse_args()
    launch(train, options, options.processes, "cpu")


def train(options: argparse.Namespace) -> None:
    if options.processes > 1 and options.core is not None:
        os.sched_setaffinity(0, {options.core + rank()})
    if options.stage == "ctc":
        train_ctc(options.minutes, options.core, options.go_on)
    else:
        train_decoder(options.minutes, options.core, options.begin, options.go_on)


if __name__ == "__main__":
    main()
