"""Make nano, part by part: `python -m tiny_audio.train.nano STAGE`.

Stages in order: corpus, encoder, decoder, frames, align, joint, pack, evaluate, samples. Everything
is written below `--folder` (default runs/nano); every training stage takes up its last save.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import soundfile
from transformers import PreTrainedTokenizerFast

from tiny_audio.data import sources, synth
from tiny_audio.data.batching import Batches, Item, Mix, Sources, cut_by_seconds
from tiny_audio.data.cache import Clip, open_store
from tiny_audio.data.manifest import write_manifest
from tiny_audio.train import align, ctc, joint, lm, pack
from tiny_audio.train.distributed import launch, rank, wait_for_all, world_size
from tiny_audio.train.loop import Loop, LoopConfig, module_weights

BATCHES_A_SHARD = 40
REAL_SETS = ("fsdd", "speechocean762")
OPEN_KINDS = ("book", "reader")
TEXT_KEYS = ("speaker", "text", "hypothesis")


def make_corpus(arguments: argparse.Namespace) -> None:
    """Real recordings and synthetic speech as shards; a larger `--clips` extends what is there."""
    folder = arguments.folder / "corpus"
    for name in REAL_SETS:
        for held_out, part in ((False, "train"), (True, "test")):
            count = sources.write_real(folder / f"{name}-{part}", name, held_out)
            print(f"{name} {part}: {count} clips")
    plan = functools.partial(sources.held_out_plan, arguments.seed + 1)
    print(f"domain test: {synth.write_speech(folder / 'domain-test', 1000, plan)} clips")
    plan = functools.partial(sources.training_plan, arguments.seed)
    count = synth.write_speech(folder / "speech", arguments.clips, plan)
    print(f"speech: {count} new clips")


def training_sources(folder: Path) -> Sources:
    digits: dict[str, list[Clip]] = defaultdict(list)
    for clip in open_store(folder / "corpus" / "fsdd-train"):
        digits[clip.speaker].append(clip)
    readers = open_store(folder / "corpus" / "speechocean762-train")
    speech = open_store(folder / "corpus" / "speech")
    return Sources(
        [c for c in speech if c.kind not in OPEN_KINDS],
        [c for c in speech if c.kind in OPEN_KINDS],
        list(digits.values()),
        [c for c in readers if c.duration_s < synth.MAX_CLIP_S],
    )


def held_out_items(folder: Path, name: str, limit: int = 10**9) -> list[Item]:
    """Held-out clips as they are, longest first; with `limit`, evenly spaced ones."""
    clips = open_store(folder / "corpus" / f"{name}-test")
    clips = [c for c in clips if c.duration_s <= synth.MAX_CLIP_S]
    chosen = clips[:: max(1, len(clips) // limit)]
    items = [Item((clip,), (0.0,), 0, None) for clip in chosen]
    return sorted(items, key=lambda item: -item.duration_s)


def train_encoder(arguments: argparse.Namespace) -> None:
    """CTC over characters; validation WER of the CTC head on all three held-out sets."""
    model = ctc.new_ctc_model(arguments.seed)
    batches = Batches(
        training_sources(arguments.folder), Mix(), arguments.seed, arguments.batch_seconds
    )
    loop = Loop(model, model.loss, loop_config(arguments), arguments.folder / "encoder")
    loop.resume()

    def batch(step: int) -> ctc.CtcBatch:
        return ctc.collate(batches(step), change_seed=step)

    loop.run(batch, lambda: evaluate_ctc(model, arguments.folder, limit=60))


def loop_config(arguments: argparse.Namespace) -> LoopConfig:
    return LoopConfig(
        learning_rate=arguments.learning_rate,
        steps=arguments.steps,
        budget_s=arguments.minutes * 60,
        optimizer="muon",
    )


def evaluate_ctc(model: ctc.CtcModel, folder: Path, limit: int) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name in ("domain", *REAL_SETS):
        references, hypotheses = [], []
        for items in cut_by_seconds(held_out_items(folder, name, limit), 60):
            batch = ctc.collate(items)
            references += batch.texts
            hypotheses += model.transcribe(batch.features)
        scores[f"wer_{name}"] = ctc.word_errors(references, hypotheses)["wer"]
        pairs = list(zip(references, hypotheses, strict=True))
        print("\n".join(f"  {r} | {h}" for r, h in pairs[::35]))
    return scores


def train_decoder(arguments: argparse.Namespace) -> None:
    """Tokenizer, then the causal LM on pseudo-audio and text."""
    folder = arguments.folder / "decoder"
    tokenizer = make_tokenizer(folder / "tokenizer", arguments.seed)
    task = lm.DecoderTask(
        lm.new_decoder(tokenizer, arguments.seed), tokenizer, sources.training_text
    )
    loop = Loop(task, task.loss, loop_config(arguments), folder)
    loop.resume()
    loop.run(lambda step: task.rows(arguments.seed, step, arguments.rows))


def make_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Read it, or train it on 60,000 training texts."""
    if not folder.exists() and rank() == 0:
        rng = random.Random(seed)
        texts = (sources.training_text(rng)[0] for _ in range(60_000))
        lm.train_tokenizer(texts).save_pretrained(folder)
    wait_for_all()
    return PreTrainedTokenizerFast.from_pretrained(folder)


def trained_parts(arguments: argparse.Namespace) -> Any:
    """The encoder and decoder of this folder's newest saves under a fresh projector."""
    folder, seed = arguments.folder, arguments.seed
    listener = ctc.new_ctc_model(seed)
    listener.load_state_dict(module_weights(folder / "encoder" / "last.safetensors"))
    tokenizer = make_tokenizer(folder / "decoder" / "tokenizer", seed)
    decoder = lm.new_decoder(tokenizer, seed)
    weights = module_weights(folder / "decoder" / "last.safetensors", "decoder.")
    table = weights["model.embed_tokens.weight"]
    decoder.load_state_dict({"lm_head.weight": table, **weights})
    return align.new_model(listener.encoder, decoder, tokenizer, seed)


def cache_frames(arguments: argparse.Namespace) -> None:
    """Frames of augmented training clips, about 1 MB for 40 s; the processes share the work."""
    model = trained_parts(arguments)
    folder = arguments.folder / "frames"
    mix = Mix(digits=0.2)
    batches = Batches(training_sources(arguments.folder), mix, arguments.seed + 7, 60)
    for shard in range(rank(), arguments.shards, world_size()):
        path = folder / f"frames-{shard:04d}.safetensors"
        if not path.exists():
            steps = range(shard * BATCHES_A_SHARD, (shard + 1) * BATCHES_A_SHARD)
            made = (ctc.collate(batches(step), change_seed=4 * step + 1) for step in steps)
            align.encode_shard(model.audio_tower, made, path)


def train_alignment(arguments: argparse.Namespace) -> None:
    """Projector and decoder together on cached frames, with pretraining rows in between."""
    seed, folder = arguments.seed, arguments.folder
    model = trained_parts(arguments)
    heard = align.read_frames(folder / "frames")
    align.scale_projector(model, [h.frames_TE for h in heard[:64]])
    model.language_model.requires_grad_(not arguments.freeze_decoder)
    text = lm.DecoderTask(model.language_model, model.tokenizer, sources.training_text)
    task = align.AlignTask(model, heard, None if arguments.freeze_decoder else text)
    name = "projector" if arguments.freeze_decoder else "align"
    loop = Loop(task, task.loss, loop_config(arguments), folder / name)
    loop.resume()
    loop.run(
        lambda step: task.batch(seed, step, arguments.rows, arguments.rows // 4),
        lambda: {f"wer_{n}": s["wer"] for n, s in score_sets(model, folder, limit=60).items()},
    )


def aligned_parts(arguments: argparse.Namespace, stage: str) -> Any:
    """All three parts as the stage "align" or "joint" left them."""
    model = (
        pack.read_preset(arguments.preset) if arguments.from_preset else trained_parts(arguments)
    )
    weights = module_weights(arguments.folder / stage / "last.safetensors", "model.")
    tied = {"language_model.lm_head.weight": weights["language_model.model.embed_tokens.weight"]}
    model.load_state_dict({**tied, **weights})
    return model


def train_jointly(arguments: argparse.Namespace) -> None:
    """Encoder, projector and decoder together, from where the alignment (or the package) is."""
    seed, folder = arguments.seed, arguments.folder
    packed = arguments.from_preset
    model = pack.read_preset(arguments.preset) if packed else aligned_parts(arguments, "align")
    text = lm.DecoderTask(model.language_model, model.tokenizer, sources.training_text)
    task = joint.JointTask(model, text)
    # More digits than the encoder had: with its mix the held-out speaker's digits got worse in
    # 10 minutes (14 → 30 % WER), while the domain got better (21 → 13 %).
    mix = Mix(digits=arguments.digits, books=0.1)
    batches = Batches(training_sources(folder), mix, seed + 11, arguments.batch_seconds)
    loop = Loop(task, task.loss, loop_config(arguments), folder / "joint")
    loop.resume()
    loop.run(
        lambda step: task.batch(batches(step), seed, step, arguments.rows // 8),
        lambda: {f"wer_{n}": s["wer"] for n, s in score_sets(model, folder, limit=60).items()},
    )


def score_sets(model: Any, folder: Path, limit: int = 10**9) -> dict[str, dict[str, Any]]:
    """WER with counts on the three held-out sets."""
    scores: dict[str, dict[str, Any]] = {}
    for name in ("domain", *REAL_SETS):
        said: list[tuple[str, str, str]] = []
        for items in cut_by_seconds(held_out_items(folder, name, limit), 60):
            batch = ctc.collate(items)
            texts = align.transcribe(model, batch.features)
            voices = [item.clips[0].speaker for item in items]
            said += zip(voices, batch.texts, texts, strict=True)
        scores[name] = ctc.word_errors([r for _, r, _ in said], [h for _, _, h in said])
        scores[name]["rows"] = said
    return scores


def voice_group(speaker: str) -> str:
    """What a held-out voice is new by."""
    if synth.HELD_OUT_ACCENT in speaker:
        return "unheard espeak accent"
    return speaker if speaker.startswith("flite") else "unheard espeak variants"


def evaluate(arguments: argparse.Namespace) -> None:
    """Score the packed model on every held-out clip; `--output` keeps the figures and all texts."""
    scores = score_sets(pack.read_preset(arguments.preset), arguments.folder, arguments.limit)
    texts = {name: score.pop("rows") for name, score in scores.items()}
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for speaker, reference, hypothesis in texts["domain"]:
        groups[voice_group(speaker)].append((reference, hypothesis))
    for group, pairs in groups.items():
        scores[f"domain, {group}"] = ctc.word_errors(*zip(*pairs, strict=True))
    print(json.dumps(scores, indent=1))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "result.json").write_text(json.dumps(scores, indent=1) + "\n")
        for name, rows in texts.items():
            lines = [json.dumps(dict(zip(TEXT_KEYS, row, strict=True))) for row in rows]
            (arguments.output / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def pack_preset(arguments: argparse.Namespace) -> None:
    """Put the newest model into the package: jointly trained, or only aligned."""
    trained = [n for n in ("joint", "align") if (arguments.folder / n).exists()]
    model = aligned_parts(arguments, trained[0])
    size = pack.write_preset(model, arguments.preset)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {size:,} bytes in {arguments.preset}")


def make_samples(arguments: argparse.Namespace) -> None:
    """Eight held-out clips that the packed model writes without an error, one of each kind."""
    model, folder = pack.read_preset(arguments.preset), arguments.samples
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, str]] = {}
    for item in held_out_items(arguments.folder, "domain"):
        clip = item.clips[0]
        if clip.kind in rows or not 1.5 < clip.duration_s < 5 or len(rows) == 8:
            continue
        if align.transcribe(model, ctc.collate([item]).features) == [clip.text]:
            name = f"{len(rows) + 1:02d}.flac"
            soundfile.write(folder / name, item.samples(), synth.SAMPLE_RATE, subtype="PCM_16")
            rows[clip.kind] = {"audio": name, "text": clip.text, "speaker": clip.speaker}
    write_manifest(folder / "manifest.jsonl", rows.values())
    print(f"{len(rows)} samples in {folder}")


STAGES = {
    "corpus": make_corpus,
    "encoder": train_encoder,
    "decoder": train_decoder,
    "frames": cache_frames,
    "align": train_alignment,
    "joint": train_jointly,
    "evaluate": evaluate,
    "pack": pack_preset,
    "samples": make_samples,
}
IN_PARALLEL = {"encoder", "decoder", "frames", "align", "joint"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tiny_audio.train.nano", description=__doc__)
    add = parser.add_argument
    add("stage", choices=STAGES)
    add("--folder", type=Path, default=Path("runs/nano"))
    add("--seed", type=int, default=0)
    add("--clips", type=int, default=48_000, help="synthetic clips of the corpus")
    add("--minutes", type=float, default=0.0, help="wall-clock budget of a stage")
    add("--steps", type=int, default=0, help="budget in steps instead")
    add("--learning-rate", type=float, default=2e-3)
    add("--batch-seconds", type=float, default=32.0, help="of an encoder step, each process")
    add("--rows", type=int, default=32, help="rows of a decoder or align step, each process")
    add("--shards", type=int, default=40, help="frame shards of 40 minutes each")
    add("--digits", type=float, default=0.3, help="joint: share of human digits")
    add("--from-preset", action="store_true", help="joint, pack: go on from the packed model")
    add("--freeze-decoder", action="store_true", help="align: a fresh projector alone")
    add("--processes", type=int, default=2, help="of the training stages, one thread each")
    add("--preset", type=Path, default=pack.PRESET)
    add("--samples", type=Path, default=pack.PRESET.parents[2] / "samples")
    add("--limit", type=int, default=10**9, help="evaluate: clips of each set")
    add("--output", type=Path, help="evaluate: folder for figures and texts")
    arguments = parser.parse_args()
    processes = arguments.processes if arguments.stage in IN_PARALLEL else 1
    launch(STAGES[arguments.stage], arguments, processes)


if __name__ == "__main__":
    main()
