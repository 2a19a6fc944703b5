"""The model as vLLM serves it: our encoder and projector before vLLM's own decoder.

The decoder is vLLM's class of the same architecture (paged attention, batches that change from
step to step), filled with our weights. Clips are prepared by our `features`, prompts by our
`render`, lengths by our configuration, so that nothing is computed in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BatchFeature
from vllm.config import ModelConfig, VllmConfig
from vllm.config.speech_to_text import SpeechToTextConfig, SpeechToTextParams
from vllm.inputs import TokensPrompt
from vllm.model_executor.models.interfaces import SupportsMultiModal, SupportsTranscription
from vllm.model_executor.models.utils import init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
)
from vllm.tokenizers import cached_tokenizer_from_config

from tiny_audio.infer.longform import policy_of
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.configuration import AudioLMConfig
from tiny_audio.model.encoder import features
from tiny_audio.model.errors import ConfigError
from tiny_audio.model.features import Features
from tiny_audio.model.prompt import AUDIO_TOKEN, render, transcription_turns
from tiny_audio.presets import load

VALUES, STEPS, POSITIONS = "audio_values", "audio_steps", "audio_positions"


class Info(BaseProcessingInfo):
    """Answers what vLLM asks before there is a clip."""

    def get_hf_config(self) -> AudioLMConfig:
        return self.ctx.get_hf_config(AudioLMConfig)

    def get_data_parser(self) -> MultiModalDataParser:
        return MultiModalDataParser(target_sr=SAMPLE_RATE, target_channels=1)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"audio": None}

    def get_mm_max_tokens_per_item(
        self, seq_len: int, mm_counts: Mapping[str, int] | None = None
    ) -> Mapping[str, int]:
        return {"audio": self.get_hf_config().positions_for(longest(self.get_hf_config()))}


class DummyInputs(BaseDummyInputsBuilder[Info]):
    """The largest clips that there may be, to measure memory with."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return AUDIO_TOKEN * mm_counts.get("audio", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        count = mm_counts.get("audio", 0)
        length = longest(self.info.get_hf_config())
        return {"audio": self._get_dummy_audios(length=length, num_audios=count)}


class Processor(BaseMultiModalProcessor[Info]):
    """Turns clips into features, and a placeholder into as many as the clip has positions."""

    def _call_hf_processor(
        self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        config = self.info.get_hf_config()
        clips = [torch.as_tensor(clip).float() for clip in hf_data["audio"]]
        made = [features(config.encoder, [clip]) for clip in clips]
        return BatchFeature(
            {
                VALUES: [one.values[0] for one in made],
                STEPS: torch.cat([one.lengths_B for one in made]),
                POSITIONS: torch.tensor([config.positions_for(len(clip)) for clip in clips]),
            }
        )

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {name: MultiModalFieldConfig.batched("audio") for name in (VALUES, STEPS, POSITIONS)}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        token = self.info.get_hf_config().audio_token_id
        counts = out_mm_kwargs.get_data().get(POSITIONS, ())
        return [
            PromptReplacement(
                modality="audio",
                target=[token],
                replacement=lambda number: [token] * int(counts[number]),
            )
        ]


@MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=DummyInputs)
class VllmAudioLM(nn.Module, SupportsMultiModal, SupportsTranscription):
    """Encoder and projector of ours, and vLLM's decoder."""

    supported_languages: ClassVar[Mapping[str, str]] = {"en": "English"}

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        asked = vllm_config.model_config
        self.config: AudioLMConfig = asked.hf_config
        ours: Any = load(asked.model, merge=True)
        decoder = ours.language_model
        self._weights = dict(decoder.state_dict())  # until `load_weights`
        # The placeholder need not have a row in the embedding table.
        table = self.config.text_config.vocab_size
        vllm: Any = self  # the methods that vLLM's protocols bring
        vllm.configure_mm_token_handling(table, [self.config.audio_token_id])
        with vllm._mark_tower_model(vllm_config, "audio"):
            self.audio_tower = ours.audio_tower.to(asked.dtype)
            self.projector = ours.projector.to(asked.dtype)
        with vllm._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=self.config.text_config,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=[type(decoder).__name__],
            )

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        return AUDIO_TOKEN

    def embed_multimodal(self, **clips: Any) -> list[Tensor]:
        """Return the audio embeddings (P, D) of every clip."""
        found = list[Tensor]()
        for values, steps in zip(clips.get(VALUES, ()), clips.get(STEPS, ()), strict=True):
            values = values.to(next(self.projector.parameters()).dtype)
            frames_BTE, lengths_B = self.audio_tower(Features(values[None], steps.view(1)))
            audio_BPD, num_positions_B = self.projector(frames_BTE, lengths_B)
            found.append(audio_BPD[0, : int(num_positions_B)])
        return found

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **unused: object,
    ) -> Any:
        model = self.language_model.model
        return model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Give vLLM's decoder the weights that `load` read with the rest of the checkpoint."""
        self.language_model.load_weights(self._weights.items())
        del self._weights
        return {name for name, _ in self.named_parameters()}

    @classmethod
    def get_speech_to_text_config(
        cls, model_config: ModelConfig, task_type: str
    ) -> SpeechToTextConfig:
        seconds = longest(model_config.hf_config) // SAMPLE_RATE
        return SpeechToTextConfig(sample_rate=SAMPLE_RATE, max_audio_clip_s=seconds)

    @classmethod
    def get_generation_prompt(cls, stt_params: SpeechToTextParams) -> TokensPrompt:
        """Return the model's own prompt, with one placeholder for the clip."""
        if stt_params.task_type != "transcribe":
            raise ConfigError("The model transcribes; it was not trained to translate.")
        asked = stt_params.model_config
        config: AudioLMConfig = asked.hf_config
        turns, tokenizer = transcription_turns(config.prompt), cached_tokenizer_from_config(asked)
        prompt = render(turns, [1], tokenizer, config.prompt)
        return TokensPrompt(
            prompt_token_ids=list(prompt.ids), multi_modal_data={"audio": stt_params.audio}
        )


def longest(config: AudioLMConfig) -> int:
    """Return how many samples a clip may have."""
    return round(policy_of(config.encoder).longest_s * SAMPLE_RATE)
