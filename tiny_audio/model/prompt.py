"""Step 6 of the path: a conversation becomes prompt ids, labels and audio slots.

`render` is the only place where a prompt is put together; training, evaluation, serving and tracing
all call it, so a model always gets prompts like those of its training. Ids are concatenated from
parts: the template's own text may hold control tokens, text from users never does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from .config import StrictConfig, fingerprint
from .errors import ConfigError, PromptError
from .template import render_template

AUDIO = "<audio>"  # what people write where a clip belongs; \<audio> is the word itself
AUDIO_TOKEN = "<|audio|>"  # the tokenizer's placeholder, one per audio embedding
IGNORED = -100  # labels that carry no loss
MOST_INSTRUCTION = 100_000  # characters of a checkpoint's own instruction

# Chat templates without a system turn and without a date, for decoders whose tokenizer has none.
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# SmolLM3's template writes today's date into the system turn. A prompt that changes overnight is
# not the prompt that was trained, so the date stands still.
FROZEN_DATE = "{%- macro strftime_now(format) -%}01 January 2025{%- endmacro -%}"


@dataclass(frozen=True, kw_only=True)
class PromptConfig(StrictConfig):
    """The text that stands around the audio in a prompt."""

    instruction: str = f"Transcribe: {AUDIO}"
    system: str | None = None
    # Jinja chat template; None takes the tokenizer's own. A checkpoint stores the text that was
    # used.
    template: str | None = None
    # A clip longer than the encoder's window: refuse it, or encode consecutive windows in one
    # prompt; "timed_windows" writes before each window when it begins, as [1:30].
    long_audio: Literal["error", "windows", "timed_windows"] = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, text in {"instruction": self.instruction, "system": self.system}.items():
            if len(text or "") > MOST_INSTRUCTION:
                raise ConfigError(
                    f"The {name} has {len(text or ''):,} characters; at most {MOST_INSTRUCTION:,} "
                    f"go into a prompt."
                )
        if self.instruction.count(AUDIO) > 1 or AUDIO in (self.system or ""):
            raise ConfigError(
                f"The instruction holds {AUDIO} once at most, the system turn never; for several "
                f"clips in one prompt hand turns to the processor."
            )


class Turn(NamedTuple):
    r"""One message of a "system", "user" or "assistant".

    In the user's text every `<audio>` stands for a clip, and `\<audio>` for the word itself; what
    others say is text, whatever it holds.
    """

    role: str
    text: str


class Stretch(NamedTuple):
    """A stretch is a window of a clip in the prompt, and what is written before it."""

    before: str
    num_positions: int


Positions = int | Sequence[Stretch]  # of one clip: the number of its embeddings, or its windows


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt. `slots` are (start, length) of every clip's run of placeholder ids."""

    ids: list[int]
    labels: list[int]
    slots: list[tuple[int, int]]


def transcription_turns(
    config: PromptConfig, instruction: str | None = None, num_clips: int = 1
) -> list[Turn]:
    """Return the conversation that asks for one clip's text, or whatever `instruction` asks; an
    empty one asks nothing else.

    Clips without a placeholder come after the text, in their order.
    """
    text = instruction or config.instruction
    if len(_texts(Turn("user", text))) == 1:
        text = " ".join([text, *[AUDIO] * num_clips])
    return [Turn("user", text)]


def turn_of(role: str, parts: Sequence[str | None]) -> Turn:
    """Make a turn of these parts: texts as somebody said them, and None for each clip.

    White space parts a text from a clip, unless the text has some or goes on with punctuation.
    """
    if role != "user":
        if None in parts:
            raise PromptError(f"Only the user's turns hold audio, not those of the {role}.")
        return Turn(role, " ".join(part for part in parts if part is not None))
    text = ""
    for part in parts:
        new = AUDIO if part is None else _AUDIO.sub(r"\\\g<0>", part)
        parted = not text or text[-1].isspace() or new[:1].isspace() or new[:1] in {*".,;:!?)"}
        text += new if parted else f" {new}"
    return Turn(role, text)


def render(
    turns: Sequence[Turn],
    positions: Sequence[Positions],
    tokenizer: PreTrainedTokenizerBase,
    config: PromptConfig,
) -> Prompt:
    """Render the messages of a conversation to ids, labels and slots.

    `positions` holds the number of audio embeddings of every clip, in the order of the
    placeholders. If the last turn is the assistant's, it is the answer: it and its stop token carry
    labels. Else the prompt ends where the decoder starts to write; both begin with the same ids.
    """
    turns = list(turns)
    answer = turns.pop() if turns and turns[-1].role == "assistant" else None
    refuse_counts(turns, len(positions))
    ids: list[int] = []
    slots: list[tuple[int, int]] = []
    remaining = iter(positions)
    for piece in _pieces(turns, tokenizer, config):
        if isinstance(piece, str):
            ids += tokenizer.encode(piece, add_special_tokens=False)
            continue
        for number, text in enumerate(_texts(piece)):
            for before, length in _stretches(next(remaining)) if number else ():
                ids += encode_text(before, tokenizer)
                slots.append((len(ids), length))
                ids += [audio_token_id(tokenizer)] * length
            ids += encode_text(text, tokenizer)
    labels = [IGNORED] * len(ids)
    if answer is not None:
        written = [*encode_text(answer.text, tokenizer), stop_ids(tokenizer, config)[0]]
        ids, labels = ids + written, labels + written
    return Prompt(ids, labels, slots)


def refuse_counts(turns: Sequence[Turn], num_clips: int) -> None:
    """Raise a `PromptError` with both counts where clips and placeholders are not as many."""
    placeholders = sum(len(_texts(turn)) - 1 for turn in turns)
    if placeholders != num_clips:
        raise PromptError(
            f"The text has {placeholders} {AUDIO} placeholder(s) but {num_clips} clip(s) were "
            f"given; write {AUDIO} once per clip, and \\{AUDIO} for the word itself."
        )


# Backslashes before `<audio>` say that it is text; one of them is taken away again.
_AUDIO = re.compile(rf"\\*{AUDIO}")


def _texts(turn: Turn) -> list[str]:
    """Return what is said before, between and behind the clips of a turn."""
    if turn.role != "user":
        return [turn.text]
    parts = re.split(rf"(?<!\\){AUDIO}", turn.text)
    return [re.sub(rf"\\(\\*{AUDIO})", r"\1", part) for part in parts]


def _stretches(positions: Positions) -> Sequence[Stretch]:
    return [Stretch("", positions)] if isinstance(positions, int) else positions


def encode_text(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of somebody's text; control tokens spelled in it stay ordinary text."""
    control = tokenizer.get_added_vocab()
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if set(ids) & set(control.values()):
        # Added tokens that are not flagged special (Qwen3's <think>) ignore the switch: cut through
        # them.
        pattern = "|".join(
            f"(?<={re.escape(t[0])})(?={re.escape(t[1:])})" for t in control if t[1:]
        )
        ids = [
            number
            for piece in re.split(pattern, text)
            for number in tokenizer.encode(
                piece, add_special_tokens=False, split_special_tokens=True
            )
        ]
    if leaked := sorted(set(ids) & {*control.values(), *tokenizer.all_special_ids}):
        raise PromptError(
            f"The text {text[:60]!r} encodes to control token(s) {leaked}; this tokenizer cannot "
            f"keep user text apart from control tokens. Remove them from the text."
        )
    return ids


def stop_ids(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> list[int]:
    """Return the ids that end an answer: the template's, then the tokenizer's own."""
    example = [Turn("user", "."), Turn("assistant", ".")]
    closing = _pieces(example, tokenizer, config, generate=False)[-1]
    ids = tokenizer.encode(closing, add_special_tokens=False) if isinstance(closing, str) else []
    if not ids or ids[0] not in tokenizer.all_special_ids:
        raise PromptError(
            f"The chat template ends an answer with {closing!r}, which does not begin with a "
            f"special token, so the decoder could not stop. Use an instruct model's tokenizer, "
            f"or set prompt.template."
        )
    end = tokenizer.eos_token_id
    return [ids[0]] if end in (None, ids[0]) else [ids[0], end]


def add_audio_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer its placeholder. The decoder's embedding table is never resized: the
    placeholder is replaced by audio before it is looked up.
    """
    if AUDIO_TOKEN not in tokenizer.get_vocab():
        # Without the flag the tokenizer would forget its other extra special tokens.
        tokenizer.add_special_tokens(
            {"extra_special_tokens": [AUDIO_TOKEN]}, replace_extra_special_tokens=False
        )


def audio_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the placeholder's id."""
    number = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)  # get_vocab copies it all: 0.26 s at 151k
    if number in (None, tokenizer.unk_token_id):
        raise PromptError(f"This tokenizer has no {AUDIO_TOKEN}; call add_audio_token(tokenizer).")
    return number


def resolved(config: PromptConfig, tokenizer: PreTrainedTokenizerBase) -> PromptConfig:
    """Return the same configuration with its template spelled out, as a checkpoint stores it."""
    return replace(config, template=_template(tokenizer, config))


def prompt_identity(config: PromptConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of configuration, template and the ids of an example."""
    example = [*transcription_turns(config), Turn("assistant", "one two")]
    ids = render(example, [3], tokenizer, config).ids
    return fingerprint({"config": resolved(config, tokenizer).to_dict(), "example": ids})


def _template(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> str:
    template = config.template or tokenizer.chat_template
    if not isinstance(template, str):
        raise PromptError(
            "The tokenizer has no chat template. Use an instruct model, or set prompt.template "
            "(for example tiny_audio.model.prompt.CHATML)."
        )
    if "strftime_now" in template and not template.startswith(FROZEN_DATE):
        template = FROZEN_DATE + template
    return template


# Private-use characters mark where a turn's text goes; templates trim white space but keep these.
_MARK = re.compile("\ue000([0-9]+)\ue001")


def _pieces(
    turns: Sequence[Turn],
    tokenizer: PreTrainedTokenizerBase,
    config: PromptConfig,
    generate: bool = True,
) -> list[str | Turn]:
    """Yield the template's own text (str) and the messages, in the decoder's order.

    This is also the one place where thinking is switched off.
    """
    if config.system is not None:
        turns = [Turn("system", config.system), *turns]
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": f"\ue000{number}\ue001"} for number, turn in enumerate(turns)
    ]
    values = {
        **tokenizer.special_tokens_map,
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": generate,
        "enable_thinking": False,
    }
    parts = _MARK.split(render_template(_template(tokenizer, config), values))
    shown = [int(number) for number in parts[1::2]]
    if shown != list(range(len(turns))):
        raise PromptError(
            f"The chat template shows turns {shown} of {len(turns)}; not all of the "
            f"roles {[t.role for t in turns]} are supported by it. Set prompt.template."
        )
    pieces: list[str | Turn] = []
    for number, part in enumerate(parts):
        pieces.append(turns[int(part)] if number % 2 else part)
    return [piece for piece in pieces if piece != ""]
