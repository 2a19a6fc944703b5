"""The stages that make nano. Each writes below `--folder` and takes up its last save."""

from __future__ import annotations

import argparse
import functools
import json
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import soundfile
from transformers import PreTrainedTokenizerFast

from recipes.nano import align, ctc, joint, lm, pack, scores, sources, synth
from recipes.nano.batching import Batches, Item, Mix, Sources
from recipes.nano.sentences import is_held_out
from recipes.nano.shards import open_store
from tiny_audio.data.cache import Clip
from tiny_audio.data.manifest import write_manifest
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.checkpoint import scale_projector
from tiny_audio.model.features import pad_frames
from tiny_audio.model.saving import write_part
from tiny_audio.train.distributed import rank, wait_for_all, world_size
from tiny_audio.train.hardware import multiplies_bf16
from tiny_audio.train.loop import Loop, LoopConfig, each_step
from tiny_audio.train.saves import fingerprint, last_save, restore

BATCHES_A_SHARD = 40
REAL_SETS = ("fsdd", "speechocean762")


def make_corpus(arguments: argparse.Namespace) -> None:
    """Write real recordings and synthetic speech as shards; a larger `--clips` adds to them."""
    folder, seed = arguments.folder / "corpus", arguments.seed
    for name in REAL_SETS:
        for held_out, part in ((False, "train"), (True, "test")):
            count = sources.write_real(folder / f"{name}-{part}", name, held_out)
            print(f"{name} {part}: {count} clips")
    plan = functools.partial(sources.held_out_plan, seed + 1)
    about = {"plan": "held out", "seed": seed + 1, "engines": ["espeak", "flite"]}
    print("domain test:", dict(synth.write_speech(folder / "domain-test", 1000, plan, about)))
    speak(folder / "speech", "training", sources.training_plan, seed, arguments.clips)
    speak(folder / "open", "open", sources.open_plan, seed, arguments.open_clips)


def speak(folder: Path, name: str, plan: Any, seed: int, clips: int) -> None:
    about = {"plan": name, "seed": seed, "engines": synth.ENGINES}
    if clips:
        made = functools.partial(plan, seed)
        print(f"{folder.name}:", dict(synth.write_speech(folder, clips, made, about)))


def training_sources(folder: Path) -> Sources:
    digits: dict[str, list[Clip]] = defaultdict(list)
    for clip in open_store(folder / "corpus" / "fsdd-train"):
        digits[clip.speaker].append(clip)
    readers = open_store(folder / "corpus" / "speechocean762-train")
    usable = [
        clip
        for clip in readers
        if not synth.length_problem(clip.num_samples) and not is_held_out(clip.text)
    ]
    if rank() == 0:
        print(f"{len(readers) - len(usable)} reader clips left out: over 10 s or a held-out text")
    speech = open_store(folder / "corpus" / "speech")
    return Sources(
        [c for c in speech if c.kind not in sources.OPEN_KINDS],
        [c for c in speech if c.kind in sources.OPEN_KINDS],
        list(digits.values()),
        usable,
    )


def train_encoder(arguments: argparse.Namespace) -> None:
    """Train the encoder by CTC over characters; print the head's WER on three held-out sets."""
    model = ctc.new_ctc_model(arguments.seed)
    batches = Batches(
        training_sources(arguments.folder), Mix(), arguments.seed, arguments.batch_seconds
    )
    loop = Loop(model, loop_config(arguments), arguments.folder / "encoder", model.loss)
    loop.resume()

    def batch(step: int) -> ctc.CtcBatch:
        return ctc.collate(batches(step), change_seed=step)

    loop.run(each_step(batch), lambda: watch_ctc(model, arguments.folder))


def train_head(arguments: argparse.Namespace) -> None:
    """Train a fresh character head on the packed model's frozen encoder."""
    model = ctc.new_ctc_model(arguments.seed)
    model.encoder = pack.read_preset(arguments.preset).audio_tower
    model.encoder.freeze()
    batches = Batches(
        training_sources(arguments.folder), Mix(), arguments.seed + 3, arguments.batch_seconds
    )
    loop = Loop(model, loop_config(arguments), arguments.folder / "head", model.loss)
    loop.resume()
    loop.run(
        each_step(lambda step: ctc.collate(batches(step), change_seed=step)),
        lambda: watch_ctc(model, arguments.folder),
    )


def loop_config(arguments: argparse.Namespace) -> LoopConfig:
    return LoopConfig(
        rates={"": arguments.learning_rate},
        steps=arguments.steps,
        budget_s=arguments.minutes * 60,
        optimizer="muon",
        warmup_steps=100,
        final_rate=0.02,
        save_every_s=180.0,
        log_every=50,
        keep=1,
        bf16=multiplies_bf16("cpu"),
    )


def watch_ctc(model: ctc.CtcModel, folder: Path) -> dict[str, float]:
    def listen(items: list[Item]) -> list[tuple[str, str]]:
        return [(text, "ok") for text in model.transcribe(ctc.collate(items).features)]

    return scores.watch(listen, folder)


def train_decoder(arguments: argparse.Namespace) -> None:
    """Tokenizer, then the causal LM on pseudo-audio and text; `decoder/hub` is the result as a
    part. `--without-readers` leaves out the texts of speechocean762, so that a model trained on
    those recordings cannot know them by heart.
    """
    folder = arguments.folder / "decoder"
    tokenizer = make_tokenizer(folder / "tokenizer", arguments.seed)
    texts = sources.unread_text if arguments.without_readers else sources.training_text
    task = lm.DecoderTask(lm.new_decoder(tokenizer, arguments.seed), tokenizer, texts)
    loop = Loop(task, loop_config(arguments), folder, task.loss)
    loop.resume()
    loop.run(each_step(lambda step: task.rows(arguments.seed, step, arguments.rows)))
    if rank() == 0:
        shutil.rmtree(folder / "hub", ignore_errors=True)
        write_part(task.decoder, folder / "hub", None)
        tokenizer.save_pretrained(folder / "hub")


def make_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """Read it, or train it on 60,000 training texts."""
    if not folder.exists() and rank() == 0:
        rng = random.Random(seed)
        texts = (sources.training_text(rng)[0] for _ in range(60_000))
        lm.train_tokenizer(texts).save_pretrained(folder)
    wait_for_all()
    return PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)


def trained_parts(arguments: argparse.Namespace) -> Any:
    """Pretrained encoder and decoder, of this folder or the package, under a fresh projector."""
    folder, seed = arguments.folder, arguments.seed
    if arguments.from_preset:
        packed = pack.read_preset(arguments.preset)
        return align.new_model(packed.audio_tower, packed.language_model, packed.tokenizer, seed)
    listener = ctc.new_ctc_model(seed)
    restore(listener, last_save(folder / "encoder"))
    tokenizer = make_tokenizer(folder / "decoder" / "tokenizer", seed)
    decoder = lm.new_decoder(tokenizer, seed)
    restore(decoder, last_save(folder / "decoder"), "decoder.")
    return align.new_model(listener.encoder, decoder, tokenizer, seed)


def cache_frames(arguments: argparse.Namespace) -> None:
    """Cache frames of augmented training clips, about 1 MB for 40 s; processes share the work."""
    model = trained_parts(arguments)
    folder, origin = arguments.folder / "frames", frames_origin(model, arguments.seed)
    mix = Mix(digits=0.2)
    batches = Batches(training_sources(arguments.folder), mix, arguments.seed + 7, 60)
    for shard in range(rank(), arguments.shards, world_size()):
        path = folder / f"frames-{shard:04d}.safetensors"
        if not path.exists():
            steps = range(shard * BATCHES_A_SHARD, (shard + 1) * BATCHES_A_SHARD)
            made = (ctc.collate(batches(step), change_seed=4 * step + 1) for step in steps)
            align.encode_shard(model.audio_tower, made, path, origin)


def frames_origin(model: Any, seed: int) -> str:
    return f"{fingerprint(model.audio_tower)}/{seed}"


def train_alignment(arguments: argparse.Namespace) -> None:
    """Train projector and decoder on cached frames, with pretraining rows in between."""
    seed, folder = arguments.seed, arguments.folder
    model = trained_parts(arguments)
    clips = align.read_frames(folder / "frames", frames_origin(model, seed))
    scale_projector(model, pad_frames([h.frames_TE for h in clips[:64]]))
    model.language_model.requires_grad_(not arguments.freeze_decoder)
    text = lm.DecoderTask(model.language_model, model.tokenizer, sources.training_text)
    task = align.AlignTask(model, clips, None if arguments.freeze_decoder else text)
    name = "projector" if arguments.freeze_decoder else "align"
    loop = Loop(task, loop_config(arguments), folder / name, task.loss)
    loop.resume()
    loop.run(
        each_step(lambda step: task.batch(seed, step, arguments.rows, arguments.rows // 4)),
        lambda: scores.watch(scores.listening(model), folder),
    )


def aligned_parts(arguments: argparse.Namespace, stage: str) -> Any:
    """Read all three parts as the stage "align", "projector" or "joint" saved them."""
    model = trained_parts(arguments)
    restore(model, last_save(arguments.folder / stage), "model.")
    return model


def train_jointly(arguments: argparse.Namespace) -> None:
    """Train all three parts, beginning with those of the alignment or of the package."""
    seed, folder = arguments.seed, arguments.folder
    packed = arguments.from_preset
    model = pack.read_preset(arguments.preset) if packed else aligned_parts(arguments, "align")
    text = lm.DecoderTask(model.language_model, model.tokenizer, sources.training_text)
    listener = ctc.new_ctc_model(seed)
    stage = "head" if packed else "encoder"
    restore(listener.head, last_save(folder / stage), "head.")
    task = joint.JointTask(model, text, listener)
    # More digits than the encoder had: with its mix the held-out speaker's digits got worse in
    # 10 minutes (14 → 30 % WER), while the domain got better (21 → 13 %).
    mix = Mix(digits=arguments.digits, books=0.1)
    batches = Batches(training_sources(folder), mix, seed + 11, arguments.batch_seconds)
    loop = Loop(task, loop_config(arguments), folder / "joint", task.loss)
    loop.resume()
    loop.run(
        each_step(lambda step: task.batch(batches(step), seed, step, arguments.rows // 8)),
        lambda: scores.watch(scores.listening(model), folder),
    )


def evaluate(arguments: argparse.Namespace) -> None:
    """Score the packed model; `--out` keeps the figures and all texts."""
    model = pack.read_preset(arguments.preset)
    result = scores.report(model, arguments.folder, arguments.out, arguments.beams)
    print(json.dumps(result, indent=1), scores.table(result), sep="\n\n")


def pack_preset(arguments: argparse.Namespace) -> None:
    """Write the weights of a stage into the package."""
    model = aligned_parts(arguments, arguments.trained)
    size = pack.write_preset(model, arguments.preset)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {size:,} bytes in {arguments.preset}")


def make_samples(arguments: argparse.Namespace) -> None:
    """Write eight held-out clips, one of each kind, that the packed model writes without error."""
    listen, folder = scores.listening(pack.read_preset(arguments.preset)), arguments.samples
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, str]] = {}
    for item in scores.held_out_items(arguments.folder, "domain", "reported")[0]:
        clip = item.clips[0]
        if clip.kind in rows or not 1.5 < clip.duration_s < 5 or len(rows) == 8:
            continue
        if listen([item]) == [(clip.text, "ok")]:
            name = f"{len(rows) + 1:02d}.flac"
            soundfile.write(folder / name, item.samples(), SAMPLE_RATE, subtype="PCM_16")
            rows[clip.kind] = {"audio": name, "text": clip.text, "speaker": clip.speaker}
    write_manifest(folder / "manifest.jsonl", rows.values())
    print(f"{len(rows)} samples in {folder}")
