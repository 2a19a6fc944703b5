"""The whole model: encoder, projector and decoder, and the one place where audio meets text.

Letters: B prompts, L prompt length, P audio positions, D decoder width, V vocabulary. Clips of a
batch lie one after another, in the order of their placeholders; a prompt may hold none, one or
several.

Parts are handed in, already made: `AudioLM(encoder, projector, decoder)`. Reading them from disk is
`checkpoint.py`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ModelOutput

from .audio import SAMPLE_RATE, load_audio
from .configuration import AudioLMConfig, LoraConfig
from .decoder import DecoderConfig, own_ends, without_dropout
from .encoder import AudioEncoder, features
from .errors import ConfigError, PromptError
from .features import Features, Frames, valid_mask
from .lora import inject
from .projection import Projector
from .prompt import IGNORED, PromptConfig, add_audio_token, audio_token_id, stop_ids

CLIPS = ("input_features", "input_values")  # transformers' names for a batch of clips


class Embedded(NamedTuple):
    """The audio embeddings of a batch of clips, and how many of them each clip has."""

    audio_BPD: Tensor
    lengths_B: Tensor


class EncodedAudio(NamedTuple):
    """The audio embeddings of a batch of clips, and every stage before them."""

    frames_BTE: Tensor
    frame_lengths_B: Tensor
    audio_BPD: Tensor
    lengths_B: Tensor

    @property
    def embedded(self) -> Embedded:
        """Return the last stage, which goes into prompts."""
        return Embedded(self.audio_BPD, self.lengths_B)


@dataclass
class AudioLMOutput(ModelOutput):
    """`loss` is a mean over supervised tokens; `logits` (B, L, V)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class AudioLM(PreTrainedModel, GenerationMixin):
    """A language model that takes audio. Its parts come ready made, encoder and decoder frozen."""

    config: AudioLMConfig
    config_class = AudioLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("audio", "text")
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(
        self,
        encoder: AudioEncoder,
        projector: Projector,
        decoder: PreTrainedModel,
        *,
        tokenizer: Any = None,
        config: AudioLMConfig | None = None,
    ):
        super().__init__(config or config_of(encoder, projector, decoder))
        self.audio_tower = encoder
        self.projector = projector
        self.language_model = without_dropout(decoder)
        self.tokenizer = tokenizer
        # Hashes of the base weights as `build` or `load` read them; None: made by hand, or unread.
        self.base_digests: dict[str, str] | None = None
        self.is_merged = False  # whether the decoder's adapters are in its weights (merging.py)
        if tokenizer is not None:
            add_audio_token(tokenizer)
            self.config.audio_token_id = audio_token_id(tokenizer)
            ends = stop_ids(tokenizer, self.config.prompt) + own_ends(decoder)
            saved = self.config.stop_token_ids or []
            self.config.stop_token_ids = list(dict.fromkeys([*ends, *saved]))
        # `generate` of transformers writes as we do: greedily, and not only the 20 tokens it would.
        self.generation_config = GenerationConfig(
            do_sample=False, max_new_tokens=448, eos_token_id=self.config.stop_token_ids
        )
        width = decoder.get_input_embeddings().embedding_dim
        if (projector.encoder_dim, projector.decoder_dim) != (encoder.config.width, width):
            raise ConfigError(
                f"The projector goes from {projector.encoder_dim} to {projector.decoder_dim}, but "
                f"the encoder is {encoder.config.width} wide and the decoder {width}; build it "
                f"with these widths."
            )
        encoder.freeze()
        decoder.requires_grad_(False)
        for part, lora in self.config.lora.items():
            self.add_lora(part, lora)
        self.post_init()

    # The path -----------------------------------------------------------------------------------

    def encode(self, samples_N: Tensor, sampling_rate: int) -> Tensor:
        """Return the frames (1, T, E) of one clip of mono samples, (N,) or (1, N), at 16 kHz."""
        if sampling_rate != SAMPLE_RATE:
            raise ConfigError(
                f"encode takes {SAMPLE_RATE} Hz, got {sampling_rate}; use load_audio."
            )
        clip = load_audio(samples_N, sampling_rate).samples.to(self.device)
        return self.audio_tower(features(self.config.encoder, [clip]))[0]

    def embed_audio(self, features: Features) -> EncodedAudio:
        """Turn features into frames and audio embeddings, with the lengths of both."""
        frames = Frames(*self.audio_tower(features))
        return EncodedAudio(*frames, *self.project(frames))

    def project(self, frames: Frames) -> Embedded:
        """Turn frames into audio embeddings, in the projector's dtype."""
        dtype = next(self.projector.parameters()).dtype
        return Embedded(*self.projector(frames.values.to(dtype), frames.lengths_B))

    def embed_prompts(
        self, input_ids: Tensor, audio: Features | Frames | Embedded | None
    ) -> Tensor:
        """Return prompt embeddings (B, L, D) of prompts and their clips, however far those are.

        All prompts come this way: of inference, training, transformers and tracing.
        """
        if audio is None:
            self._refuse_placeholders(input_ids)
            return self.get_input_embeddings()(input_ids)
        if isinstance(audio, Features):
            audio = self.embed_audio(audio).embedded
        elif isinstance(audio, Frames):
            audio = self.project(audio)
        return self.fuse(input_ids, *audio)

    def fuse(self, input_ids: Tensor, audio_BPD: Tensor, lengths_B: Tensor) -> Tensor:
        """Return prompt embeddings (B, L, D): text looked up, audio in place of placeholders.

        Every prompt must hold exactly the positions of its own clips; a shift by one clip would
        otherwise go unnoticed (trap T7).
        """
        is_audio = self.is_audio(input_ids)
        per_prompt = is_audio.sum(1)
        ends = torch.cumsum(lengths_B, 0).tolist()
        borders = torch.cumsum(per_prompt, 0).tolist()
        if (ends[-1] if ends else 0) != borders[-1] or not set(borders) <= {0, *ends}:
            raise PromptError(
                f"The prompts hold {per_prompt.tolist()} audio placeholders, the clips give "
                f"{lengths_B.tolist()} audio embeddings; render the prompt from the same audio."
            )
        # The placeholder need not have a row in the embedding table.
        embeds_BLD = self.get_input_embeddings()(input_ids.masked_fill(is_audio, 0))
        valid = audio_BPD[valid_mask(lengths_B, audio_BPD.shape[1])]
        return embeds_BLD.index_put(torch.where(is_audio), valid.to(embeds_BLD.dtype))

    def is_audio(self, input_ids: Tensor) -> Tensor:
        """Return (B, L) bool, True at audio placeholders."""
        placeholder = self.config.audio_token_id
        return input_ids.eq(-1 if placeholder is None else placeholder)

    def _refuse_placeholders(self, input_ids: Tensor) -> None:
        """Refuse a placeholder without audio, which would otherwise be looked up like a word."""
        if num_placeholders := int(self.is_audio(input_ids).sum()):
            raise PromptError.counts(num_placeholders, 0, "A prompt without audio")

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        input_values: Tensor | None = None,
        input_values_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> AudioLMOutput:
        """Turn prompt ids (B, L) and clips' features into logits, and a loss if labels are given.

        `num_items_in_batch` is what transformers' Trainer gives when it accumulates gradients: the
        supervised tokens of all micro-batches, by which the sum of the loss is divided (trap
        T24).
        """
        if inputs_embeds is None:
            assert input_ids is not None, "give input_ids or inputs_embeds"
            clips = as_features(
                input_features, input_features_mask, input_values, input_values_mask
            )
            if past_key_values is not None and past_key_values.get_seq_length():
                # Of tokens behind a prompt; transformers before 5.23 hands its clips over again.
                clips = clips if self.is_audio(input_ids).any() else None
            inputs_embeds = self.embed_prompts(input_ids, clips)
        if position_ids is None and attention_mask is not None:
            position_ids = positions_of(attention_mask)[:, -inputs_embeds.shape[1] :]
        out = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        loss = None if labels is None else token_loss(out.logits, labels, num_items_in_batch)
        return AudioLMOutput(
            loss=loss,
            logits=out.logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, input_ids: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Refuse beams over several clips in a prompt: beams repeat every row of every tensor, so a
        prompt's second clip would slip into the copy of the first.
        """
        clips = next((kwargs[k] for k in CLIPS if kwargs.get(k) is not None), None)
        if expand_size > 1 and clips is not None and input_ids is not None:
            hears = self.is_audio(input_ids).any(1)
            if len(clips) != len(input_ids) or not hears.all():
                raise PromptError(
                    "Beams and several answers need exactly one clip (of one window) per prompt; "
                    "use num_beams=1 and num_return_sequences=1."
                )
        return super()._expand_inputs_for_generation(
            expand_size=expand_size, input_ids=input_ids, **kwargs
        )

    # What trains --------------------------------------------------------------------------------

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return names and parameters that receive gradients: what `save` writes."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def pretrained_part(self, name: str) -> nn.Module:
        """Return the stock model of the "encoder" or the "decoder"."""
        parts = {"encoder": self.audio_tower.model, "decoder": self.language_model}
        if name not in parts:
            raise ConfigError.unknown(name, parts, "The table of pretrained parts")
        return parts[name]

    def add_lora(self, part: str, lora: LoraConfig) -> None:
        """Put trainable low-rank adapters on `part` ("encoder" or "decoder") and nothing else."""
        inject(self.pretrained_part(part), part, lora)
        self.config.lora_config = {**(self.config.lora_config or {}), part: lora.to_dict()}

    # Names that transformers, vLLM and the course expect ------------------------------------------

    def get_audio_features(
        self,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        input_values: Tensor | None = None,
        input_values_mask: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Return all clips' audio embeddings, (sum of positions, D), in `pooler_output`."""
        clips = as_features(input_features, input_features_mask, input_values, input_values_mask)
        if clips is None:
            raise PromptError("get_audio_features needs input_features or input_values.")
        audio = self.embed_audio(clips)
        valid = audio.audio_BPD[valid_mask(audio.lengths_B, audio.audio_BPD.shape[1])]
        return BaseModelOutputWithPooling(last_hidden_state=audio.frames_BTE, pooler_output=valid)

    @property
    def encoder(self) -> AudioEncoder:
        return self.audio_tower

    @property
    def audio_projector(self) -> Projector:
        return self.projector

    @property
    def decoder(self) -> PreTrainedModel:
        return self.language_model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def init_weights(self) -> None:
        """Do nothing: parts come ready, and transformers must not initialise them again."""

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """Refuse transformers' own way, which would write weights that no `load` accepts."""
        raise TypeError("Save with tiny_audio.save(model, folder).")

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **kwargs: Any) -> "AudioLM":
        """Load through the registered class (`checkpoint.py`), strict like every other way."""
        kwargs.pop("trust_remote_code", None)  # never, whoever asks
        return AutoModel.from_pretrained(source, *args, trust_remote_code=False, **kwargs)


def config_of(
    encoder: AudioEncoder, projector: Projector, decoder: PreTrainedModel
) -> AudioLMConfig:
    """Return the configuration that describes three parts handed in by hand."""
    return AudioLMConfig(
        audio_config=encoder.config.to_dict(),
        projector_config=projector.config.to_dict(),
        decoder_config=DecoderConfig(architecture=decoder.config.to_dict()).to_dict(),
        prompt_config=PromptConfig().to_dict(),
    )


def as_features(
    input_features: Tensor | None,
    input_features_mask: Tensor | None,
    input_values: Tensor | None,
    input_values_mask: Tensor | None,
) -> Features | None:
    """Turn the batch keys of transformers (values and a step mask) into `Features`."""
    values = input_features if input_features is not None else input_values
    mask = input_features_mask if input_features is not None else input_values_mask
    if values is None:
        return None
    if mask is None:
        mask = values.new_ones((len(values), values.shape[-1]), dtype=torch.long)
    return Features(values, mask.sum(-1))


def positions_of(attention_mask: Tensor) -> Tensor:
    """Return position ids that count only real tokens, whichever side is padded (trap T1)."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def token_loss(
    logits_BLV: Tensor, labels_BL: Tensor, num_tokens: int | Tensor | None = None
) -> Tensor:
    """Return the cross-entropy in fp32 over supervised tokens; only here labels shift by one.

    The mean of this batch, or the sum over `num_tokens`, those of all batches of one step.
    """
    targets = labels_BL[:, 1:].reshape(-1)
    supervised = targets != IGNORED
    if not supervised.any():
        raise PromptError("No label is supervised in this batch; give every row an answer.")
    logits = logits_BLV[:, :-1].flatten(0, 1)[supervised]
    if num_tokens is None:
        return F.cross_entropy(logits.float(), targets[supervised])
    return F.cross_entropy(logits.float(), targets[supervised], reduction="sum") / num_tokens
