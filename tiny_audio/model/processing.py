"""Audio and text → one batch for the model: steps 2 to 6 of the path, as tensors.

`prepare.lay_out` renders and pads; here sources of sound and messages are read, and the tensors get
the names that transformers knows.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from .audio import load_audio
from .configuration import AudioLMConfig
from .errors import AudioError, PromptError, Reason
from .features import valid_mask
from .messages import conversation_of
from .prepare import Side, lay_out
from .prompt import IGNORED, Turn, stop_ids, transcription_turns


class AudioProcessor(ProcessorMixin):
    """Turns audio (files, bytes, arrays, tensors) and text into what `AudioLM.forward` takes.

    Registered with `AutoProcessor`; everything it needs to know is in the checkpoint's
    configuration.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: AudioLMConfig):
        self.tokenizer = tokenizer
        self.config = config
        self.chat_template = config.prompt.template

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[Turn] | Sequence[str] | Sequence[Sequence[Turn]] | None = None,
        answers: Sequence[str] | None = None,
        sampling_rate: int | None = None,
        padding_side: Side = "left",
        return_tensors: Literal["pt"] = "pt",
        **unknown: Any,
    ) -> BatchFeature:
        """Make one prompt per entry of `audio` (a single source counts as one entry).

        An entry is one source, or a list of sources for a prompt with several `<audio>` (an empty
        one, or None, for a prompt of text alone). `text` is the instruction of all prompts, one
        for each, or each prompt's turns. With `answers` the batch is one to train on: labels cover
        the answers and their stop tokens.
        """
        if return_tensors != "pt":
            raise TypeError(f"AudioProcessor makes torch tensors, not {return_tensors!r}.")
        if unknown:
            raise TypeError(f"AudioProcessor does not take {', '.join(unknown)}.")
        prompts = [[one] for one in audio] if isinstance(audio, list) else [[audio]]
        if not prompts:
            raise PromptError(
                "There is no prompt in an empty list; give at least one audio source."
            )
        prompts = [one[0] if isinstance(one[0], list) else one for one in prompts]
        clips = [
            [self.samples(source, sampling_rate) for source in one if source is not None]
            for one in prompts
        ]
        turns = self._turns(text, [len(sounds) for sounds in clips])
        if answers is not None:
            if isinstance(answers, str):
                raise PromptError(f"answers is the text {answers!r}; give a list, one per prompt.")
            if len(answers) != len(prompts):
                raise PromptError(
                    f"{len(prompts)} prompt(s) but {len(answers)} answer(s) were given."
                )
            turns = [[*t, Turn("assistant", a)] for t, a in zip(turns, answers, strict=True)]
        return self.batch(turns, clips, padding_side)

    def batch(
        self,
        turns: Sequence[Sequence[Turn]],
        clips: Sequence[Sequence[Tensor]],
        padding_side: Side = "left",
    ) -> BatchFeature:
        """Turn conversations and their clips (samples_N at 16 kHz) into padded tensors."""
        laid_out = lay_out(turns, clips, self.tokenizer, self.config, padding_side)
        batch = {"input_ids": laid_out.ids_BL, "attention_mask": laid_out.mask_BL}
        if laid_out.audio is not None:
            values, lengths_B = laid_out.audio
            name = self.config.encoder.record.input_name
            batch[name] = values
            batch[f"{name}_mask"] = valid_mask(lengths_B, values.shape[-1]).long()
        if not laid_out.labels_BL.eq(IGNORED).all():
            batch["labels"] = laid_out.labels_BL
        return BatchFeature(batch)

    def samples(self, source: Any, sampling_rate: int | None = None) -> Tensor:
        """Turn a source of audio into samples_N at 16 kHz. Several clips are a list."""
        shape = tuple(getattr(source, "shape", ()))
        if len(shape) == 2 and min(shape) > 2:
            raise AudioError(
                f"An array of shape {shape} could be {min(shape)} clips or {min(shape)} channels. "
                f"Pass a list of 1-D arrays, or load_audio(array, sampling_rate) for one clip.",
                Reason.ARGUMENT,
            )
        return load_audio(source, sampling_rate).samples

    def stop_ids(self) -> list[int]:
        """Return the ids that end an answer: the model's, or the template's if none is known."""
        return self.config.stop_token_ids or stop_ids(self.tokenizer, self.config.prompt)

    @property
    def pad_id(self) -> int:
        """Return the id for padding. It is always masked, so any id does."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else pad

    @property
    def model_input_names(self) -> list[str]:
        name = self.config.encoder.record.input_name
        return ["input_ids", "attention_mask", name, f"{name}_mask"]

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        return_dict: bool = True,
        sampling_rate: int | None = None,
        return_tensors: Literal["pt"] = "pt",
        **unknown: Any,
    ) -> BatchFeature:
        """Turn messages of transformers, of one conversation or several, into one batch.

        A message's content is text, or parts: `{"type": "text", "text": …}` and `{"type": "audio",
        "audio": …}` (or "path") where a clip belongs. The template is the checkpoint's.
        """
        if not (tokenize and return_dict) or chat_template or return_tensors != "pt":
            raise TypeError(
                "Audio and prompt belong together, and the template to the checkpoint: call "
                "apply_chat_template(messages, tokenize=True, return_dict=True, "
                "add_generation_prompt=True)."
            )
        if unknown:
            raise TypeError(f"apply_chat_template does not take {', '.join(unknown)}.")
        many = conversation if isinstance(conversation[0], list) else [conversation]
        read = [conversation_of(messages) for messages in many]
        for number, (turns, _) in enumerate(read, start=1):
            if (turns[-1].role == "assistant") == add_generation_prompt:
                raise PromptError(
                    f"add_generation_prompt={add_generation_prompt}, and conversation {number} of "
                    f"{len(read)} ends with {turns[-1].role!r}. To write, end with the user and "
                    f"set it; to train, end with the assistant's answer."
                )
        clips = [[self.samples(source, sampling_rate) for source in sources] for _, sources in read]
        side: Side = "left" if add_generation_prompt else "right"
        return self.batch([turns for turns, _ in read], clips, side)

    def _turns(self, text: Any, num_clips: Sequence[int]) -> list[list[Turn]]:
        if text is None or isinstance(text, str):
            text = [text] * len(num_clips)
        elif text and isinstance(text[0], Turn):
            text = [text]
        if len(text) != len(num_clips):
            raise PromptError(
                f"{len(num_clips)} prompt(s) of audio but {len(text)} text(s) were given."
            )
        return [
            transcription_turns(self.config.prompt, one, clips)
            if one is None or isinstance(one, str)
            else list(one)
            for one, clips in zip(text, num_clips, strict=True)
        ]
