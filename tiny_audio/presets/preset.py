"""The class of presets."""

from dataclasses import dataclass, field, replace
from typing import Any

from tiny_audio.model import checkpoint
from tiny_audio.model.configuration import AudioLMConfig, LoraConfig
from tiny_audio.model.decoder import DecoderConfig
from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.hub import architecture_of
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.projection import ProjectorConfig
from tiny_audio.model.prompt import PromptConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Encoder, projector, decoder and prompt that belong together, and LoRA for later stages."""

    name: str
    encoder: EncoderConfig
    projector: ProjectorConfig
    decoder: DecoderConfig
    prompt: PromptConfig = field(default_factory=PromptConfig)
    lora: dict[str, LoraConfig] = field(default_factory=dict)

    def config(self) -> AudioLMConfig:
        """Return the configuration of the whole model at true scale; read nothing."""
        return AudioLMConfig(
            audio_config=self.encoder.to_dict(),
            projector_config=self.projector.to_dict(),
            decoder_config=self.decoder.to_dict(),
            prompt_config=self.prompt.to_dict(),
        )

    def with_sources(self, encoder: str = "", decoder: str = "") -> "Preset":
        """Return the same preset around other pretrained parts; only their config.json is read."""
        chosen = self
        if encoder:
            fresh = EncoderConfig(architecture=architecture_of(encoder), source=encoder)
            if fresh.record.full_window:
                fresh = replace(fresh, window=self.encoder.window)
            kept = replace(fresh, layers=self.encoder.layers, pool=self.encoder.pool)
            chosen = replace(chosen, encoder=kept)
        if decoder:
            language_model = DecoderConfig(architecture=architecture_of(decoder), source=decoder)
            chosen = replace(chosen, decoder=language_model)
        return chosen

    def build(self, **options: Any) -> AudioLM:
        """Read the pretrained parts and put a fresh projector between them."""
        return checkpoint.build(self.encoder, self.projector, self.decoder, self.prompt, **options)
