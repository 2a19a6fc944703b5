"""A projector and a small decoder learn answers from cached frames: minutes on one core."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recipes.ears.frames import FrameStore, encoder_config
from tiny_audio.data.examples import Example
from tiny_audio.data.mixture import Visit
from tiny_audio.evaluate.tasks import Task, expected, read
from tiny_audio.model import checkpoint
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.features import pad_frames
from tiny_audio.model.generation import write
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.prepare import prepare
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.model.projector import BlpConfig, StatisticsConfig, StatisticsProjector
from tiny_audio.model.prompt import PromptConfig, stop_ids
from tiny_audio.presets.nano import PRESET as NANO
from tiny_audio.train.batch import Collator, thinned
from tiny_audio.train.task import Listening

MOST_TOKENS = 12  # of an answer


@dataclass(frozen=True)
class Plan:
    """How long, how fast, with how much changed: one stage for the connector alone, one for all."""

    layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    hertz: float = 1.0
    steps: int = 150
    warm_up_share: float = 0.2  # of the steps: the connector alone
    batch: int = 16
    rate: float = 2e-3
    decoder_rate: float = 5e-4
    weight_decay: float = 0.1
    frame_dropout: float = 0.2
    # The connector: 0 is a BLP with a position for each frame, else mean and deviation of so much.
    statistics_s: float = 0.0
    dropout: float = 0.3  # of statistics
    # Penalty of a ridge regression that gives statistics their weights; 0: they are trained.
    ridge: float = 0.0
    crop_s: float = 0.0  # the shortest part of a clip that a visit may be, 0 for all of it
    seed: int = 0


def build(plan: Plan) -> AudioLM:
    """Whisper tiny.en's layers, a fresh connector, and nano's decoder."""
    torch.manual_seed(plan.seed)
    encoder = encoder_config(plan.layers, plan.hertz)
    prompt = PromptConfig(instruction="<audio>", long_audio="windows")
    connector: ProjectorConfig = BlpConfig(expand=1)
    if plan.statistics_s:
        k = round(plan.statistics_s * plan.hertz)
        connector = StatisticsConfig(k=k)
    return checkpoint.build(encoder, connector, NANO.decoder, prompt)


def its_text(example: Example) -> dict[str, str]:
    return {"text": example.text}


def fit(
    model: AudioLM,
    plan: Plan,
    examples: Sequence[Example],
    store: FrameStore,
    described: Callable[[Example], dict[str, str]] = its_text,
) -> list[float]:
    """Train in two stages, as MuFun does; the loss of every step. A regression (`Plan.ridge`) in
    place of the first one predicts what is `described` of a single clip: answers by question.
    """
    parts = {part.sound.digest(): part for e in examples for part in e.parts()}
    clips = {key: store.frames_of(part, model.config.encoder)[0] for key, part in parts.items()}
    with regularised(model, plan, list(clips.values())):
        if plan.ridge:
            answers = dict[str, dict[str, str]]()  # of each clip, to all that is asked about it
            for example in examples:
                if not example.more:
                    answers.setdefault(example.sound.digest(), {}).update(described(example))
            solve_by_ridge(model, plan, [clips[key] for key in answers], list(answers.values()))
        return steps_of(model, plan, examples, store)


@contextmanager
def regularised(model: AudioLM, plan: Plan, clips: Sequence[Tensor]) -> Iterator[None]:
    """Fit a connector of statistics to these frames, and leave out some of the statistics while it
    trains. Other connectors train as they are.
    """
    projector = model.projector
    if not isinstance(projector, StatisticsProjector):
        yield
        return
    projector.standardise(clips)
    checkpoint.scale_projector(model, pad_frames(clips[: plan.batch]))
    hook = projector.linear_out.register_forward_pre_hook(
        lambda _, given: torch.nn.functional.dropout(given[0], plan.dropout)
    )
    yield
    hook.remove()


@torch.no_grad()
def solve_by_ridge(
    model: AudioLM, plan: Plan, clips: Sequence[Tensor], wanted: Sequence[dict[str, str]]
) -> None:
    """Solve the linear layer: ridge regression from statistics to the codes of the answers."""
    projector: Any = model.projector
    rows = [projector.statistics(c[None], torch.tensor([len(c)]))[0] for c in clips]
    given_NF = ((torch.cat(rows) - projector.centre) / projector.spread).double()
    codes = codes_of(model, {item for one in wanted for item in one.items()})
    each = [torch.cat([codes[item] for item in one.items()]).sum(0) for one in wanted]
    codes_ND = torch.cat([code.expand(len(r), -1) for code, r in zip(each, rows, strict=True)])
    codes_ND = codes_ND - codes_ND.mean(0)
    projector.linear_out.weight.copy_(ridge(given_NF, codes_ND, plan.ridge).T)
    checkpoint.scale_projector(model, pad_frames(clips[: plan.batch]))


def ridge(given_NF: Tensor, wanted_ND: Tensor, penalty: float) -> Tensor:
    """Return the weights (F, D) of a ridge regression; it solves the smaller of two equations."""
    num, width = given_NF.shape
    penalty_1 = penalty * width * torch.eye(min(num, width), dtype=given_NF.dtype)
    if num < width:
        return given_NF.T @ torch.linalg.solve(given_NF @ given_NF.T + penalty_1, wanted_ND)
    return torch.linalg.solve(given_NF.T @ given_NF + penalty_1, given_NF.T @ wanted_ND)


def codes_of(model: AudioLM, answers: set[tuple[str, str]]) -> dict[tuple[str, str], Tensor]:
    """A vector (1, D) for each answer to a question: the nearest orthonormal ones to the mean
    embeddings of their tokens. So an answer lies near its word, and no two are alike.
    """
    table: Any = model.get_input_embeddings()
    named = sorted(answers)
    ids = [model.tokenizer.encode(answer, add_special_tokens=False) for _, answer in named]
    means_AD = torch.stack([table.weight[row].double().mean(0) for row in ids])
    left_AA, _, right_AD = torch.linalg.svd(means_AD, full_matrices=False)
    return dict(zip(named, (left_AA @ right_AD).split(1), strict=True))


def steps_of(
    model: AudioLM, plan: Plan, examples: Sequence[Example], store: FrameStore
) -> list[float]:
    """The loss of every step: the connector alone at first, then the decoder too."""
    collator, task, encoder = Collator(model), Listening(model), model.config.encoder
    first = 0 if plan.ridge else round(plan.warm_up_share * plan.steps)
    model.train().language_model.requires_grad_(False)
    model.projector.requires_grad_(not plan.ridge)
    groups = [
        {"params": list(model.projector.parameters()), "lr": plan.rate},
        {"params": list(model.language_model.parameters()), "lr": plan.decoder_rate},
    ]
    rates = [plan.rate, plan.decoder_rate]
    optimizer = torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
    losses, deck, dealer = list[float](), list[Example](), random.Random(plan.seed)
    for step in range(plan.steps):
        if step == first:
            model.language_model.requires_grad_(True)
        if len(deck) < plan.batch:
            deck = dealer.sample(list(examples), len(examples))
        batch, deck = deck[: plan.batch], deck[plan.batch :]
        visits = [Visit(e, step, dealer.randrange(2**31)) for e in batch]
        frames = [
            [thinned(f, plan.frame_dropout, v.seed) for f in cropped(plan, v, store, encoder)]
            for v in visits
        ]
        total = task(collator.collate(frames, visits))
        loss = total.total / total.tokens
        optimizer.zero_grad()
        loss.backward()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * pace(step, plan.steps)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def cropped(plan: Plan, visit: Visit, store: FrameStore, encoder: EncoderConfig) -> list[Tensor]:
    """A part of each clip of the visit, at random."""
    dealer, found = random.Random(visit.seed), list[Tensor]()
    for frames_TE in store.frames_of(visit.example, encoder):
        least = round(plan.crop_s * plan.hertz) or len(frames_TE)
        length = dealer.randint(min(least, len(frames_TE)), len(frames_TE))
        start = dealer.randint(0, len(frames_TE) - length)
        found.append(frames_TE[start : start + length])
    return found


def pace(step: int, steps: int) -> float:
    """Rise over the first steps, then a cosine down to nearly nothing."""
    rise = min(1.0, (step + 1) / max(1, steps // 12))
    return rise * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


@torch.inference_mode()
def answers(
    model: AudioLM, asked: Sequence[Example], frames: Sequence[Sequence[Tensor]]
) -> list[str]:
    """What the decoder writes, greedily; each example's prompt with these frames."""
    collator, found = Collator(model), list[str]()
    model.eval()
    for at in range(0, len(asked), 40):
        some = list(range(at, min(at + 40, len(asked))))
        turns = [collator.asked(Visit(asked[n], 0, 0)) for n in some]
        prompts = prepare(model, turns, [frames[n] for n in some])
        stops = stop_ids(model.tokenizer, model.config.prompt)
        written = write(model, *prompts, stops, [MOST_TOKENS] * len(some))
        found += [model.tokenizer.decode(w.tokens, skip_special_tokens=True) for w in written]
    model.train()
    return found


def right(task: Task, examples: Sequence[Example], said: Sequence[str]) -> int:
    """How many answers name the right class, strictly parsed; an unreadable one is wrong."""
    return sum(
        read(task, answer, e.columns) == expected(task, e.text, e.columns)
        for e, answer in zip(examples, said, strict=True)
    )


def controls(
    model: AudioLM, task: Task, examples: Sequence[Example], store: FrameStore, silence: Tensor
) -> dict[str, float]:
    """Accuracy with each clip, with another clip's sound, and with silence.

    All questions have as many clips as each other.
    """
    own = [store.frames_of(e, model.config.encoder) for e in examples]
    order = random.Random("swapped").sample(range(len(own)), len(own))
    place = {n: order[(at + 1) % len(order)] for at, n in enumerate(order)}  # a cycle: none stays
    swapped = [own[place[n]] for n in range(len(own))]
    sounds = {"audio": own, "swapped": swapped, "silence": [[silence] * len(f) for f in own]}
    scores = {}
    for name, frames in sounds.items():
        said = answers(model, examples, frames)
        scores[name] = right(task, examples, said) / len(examples)
    return scores


def timed(work: Callable[[], list[float]]) -> tuple[list[float], float]:
    """The losses of a training, and the processor seconds that it took."""
    began = time.process_time()
    losses = work()
    return losses, time.process_time() - began


def with_prompts(examples: Sequence[Example], prompts: Sequence[str], seed: int) -> list[Example]:
    """Each with one of the prompts, chosen at random."""
    dealer = random.Random(f"prompts/{seed}")
    return [replace(e, prompt=dealer.choice(list(prompts))) for e in examples]
