"""A model read from disk: `build` takes pretrained parts, `load` what `saving.py` wrote.

A checkpoint that is not whole, or that meets another encoder, decoder, tokenizer or prompt than it
was trained with, does not load.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .bounds import (
    CONFIG_BYTES,
    Shapes,
    check_adapters,
    check_file,
    check_module,
    described,
    stored_shapes,
)
from .configuration import AudioLMConfig
from .ctranslate2 import forget as forget_ctranslate2
from .decoder import DecoderConfig, empty_decoder, load_decoder, load_tokenizer
from .encoder import EncoderConfig, empty_encoder, features, load_encoder
from .errors import CheckpointError, MissingExtra, TinyAudioError
from .gguf import forget as forget_gguf
from .hub import OPTIONS, architecture_of, download, hub_options, quantisation_of, refused
from .identity import as_dtype, base_digests, check_golden, check_identity, probe, record_fresh
from .memory import return_freed_memory
from .merging import merge_adapters
from .modeling import AudioLM
from .packing import SCALE, unpack
from .pipeline import SpeechPipeline
from .processing import AudioProcessor
from .projection import ProjectorConfig
from .projector import build_projector
from .prompt import PromptConfig, resolved
from .quantize import quantise
from .saving import save
from .sources import inside


def asked_for(options: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller of transformers asked for, without what its Auto classes and pipelines
    always add. No remote code runs here, trusted or not.
    """
    added = {"trust_remote_code", "adapter_kwargs", "use_fast"}
    return {
        key: value
        for key, value in options.items()
        if value is not None and key not in added and not key.startswith("_")
    }


class AudioLMForConditionalGeneration(AudioLM):
    """`AudioLM` under the name, and with the two methods, that transformers' Auto classes call."""

    @classmethod
    def from_pretrained(
        cls, source: Any, *_: Any, config: Any = None, dtype: Any = None, **kwargs: Any
    ) -> "AudioLM":
        """Load a model as transformers asks; refuse options that cannot be honoured."""
        kwargs = asked_for(kwargs)
        device = kwargs.pop("device_map", "cpu")
        hub = {key: kwargs.pop(key) for key in OPTIONS if key in kwargs}
        if kwargs:
            raise TypeError(f"AudioLM.from_pretrained does not take {', '.join(sorted(kwargs))}.")
        if not isinstance(device, (str, torch.device)) or device == "auto":
            raise TypeError(f"device_map={device!r}: give one device, for example 'cuda:0'.")
        # The Auto classes hand over the configuration that they read, changed by further options.
        folder = checkpoint_folder(source, **hub)
        stored = AudioLMConfig.from_pretrained(folder, local_files_only=True)
        own = AudioLMConfig.__annotations__
        if changed := [k for k in own if config and getattr(config, k) != getattr(stored, k)]:
            raise TypeError(f"A checkpoint's {', '.join(changed)} cannot be changed by options.")
        model = load(folder, dtype=as_dtype(dtype), device=str(device), **hub)
        model.config.name_or_path = str(folder)  # where the pipeline finds a head for word times
        return model

    def save_pretrained(
        self, folder: Any, *, is_main_process: bool = True, state_dict: Any = None, **options: Any
    ) -> None:
        """Write a self-contained folder. transformers' Trainer and `push_to_hub` add options: the
        weights to write (refused unless they are this model's own names) and the largest file
        (there is one for each part).
        """
        options = {k: v for k, v in options.items() if k != "max_shard_size" and v is not None}
        if options:
            raise TypeError(f"AudioLM.save_pretrained does not take {', '.join(sorted(options))}.")
        if state_dict is not None and set(state_dict) != set(self.state_dict()):
            raise TypeError(
                "state_dict holds other weights than this model; save the model itself."
            )
        if is_main_process:
            save(self, folder, whole=True)


class PretrainedAudioProcessor(AudioProcessor):
    """`AudioProcessor` that `AutoProcessor` can read from a checkpoint; it needs no weights."""

    @classmethod
    def from_pretrained(cls, source: Any, **kwargs: Any) -> "PretrainedAudioProcessor":
        of_weights = ("dtype", "device_map")  # a pipeline hands all options to all parts
        hub = {k: v for k, v in asked_for(kwargs).items() if k not in of_weights}
        options = hub_options(hub)
        folder = checkpoint_folder(source, **hub)
        config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = load_tokenizer(inside(config.language_model.source, folder), **options)
        return cls(tokenizer, config)

    def save_pretrained(self, folder: Any, **_: Any) -> None:
        """Write nothing: a processor needs only the checkpoint's config and tokenizer."""


def build(
    encoder: EncoderConfig,
    projector: ProjectorConfig,
    decoder: DecoderConfig,
    prompt: PromptConfig | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **hub: Any,
) -> AudioLM:
    """Put a fresh projector between a pretrained encoder and a pretrained decoder.

    Their architectures are read from the sources' own config.json, whatever the configurations
    given here say: a shape is seen to be wrong, a wrong RoPE base is not. `hub` as in `load`.
    """
    options = hub_options(hub)
    encoder = replace(encoder, architecture=architecture_of(encoder.source, **options))
    decoder = replace(
        decoder,
        architecture=architecture_of(decoder.source, **options),
        quantisation=quantisation_of(decoder.source),
    )
    tokenizer = load_tokenizer(decoder.source, **options)
    config = AudioLMConfig(
        audio_config=encoder.to_dict(),
        projector_config=projector.to_dict(),
        decoder_config=decoder.to_dict(),
        prompt_config=resolved(prompt or PromptConfig(), tokenizer).to_dict(),
    )
    parts = load_encoder(encoder, dtype, **options), load_decoder(decoder, dtype, **options)
    model = assemble(config, *parts, tokenizer).to(device).eval()
    model.base_digests = base_digests(model)
    scale_projector(model)
    return model


def empty(config: AudioLMConfig) -> AudioLM:
    """Make the same model with fresh weights, or, under `torch.device("meta")`, without any."""
    return assemble(config, empty_encoder(config.encoder), empty_decoder(config.language_model))


def assemble(
    config: AudioLMConfig, encoder: Any, decoder: Any, tokenizer: Any = None
) -> AudioLMForConditionalGeneration:
    width = decoder.get_input_embeddings().embedding_dim
    projector = build_projector(config.projector, config.encoder.width, width)
    return AudioLMForConditionalGeneration(
        encoder, projector, decoder, tokenizer=tokenizer, config=config
    )


@torch.no_grad()
def scale_projector(model: AudioLM, frames: tuple[Tensor, Tensor] | None = None) -> None:
    """Give fresh audio embeddings the scale of the decoder's own (RMS over the table, trap T27).

    Measured on `frames` (frames_BTE, lengths_B); without them on a second of a fixed sound.
    """
    frames_BTE, lengths_B = frames or model.audio_tower(
        features(model.config.encoder, [probe(model.device)])
    )
    table: Any = model.get_input_embeddings()
    target = table.weight.float().square().mean().sqrt().item()
    model.projector.match_scale(frames_BTE.float(), lengths_B, target)
    record_fresh(model)


# Load ---------------------------------------------------------------------------------------------


def load(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    check: bool = True,
    merge: bool = False,
    **hub: Any,
) -> AudioLM:
    """Read a checkpoint from a folder or a Hub id, whole or not at all.

    `dtype` is that of the frozen parts; what was trained is float32. `torch.int8` is for inference
    on a CPU: the decoder's linear layers, its adapters merged, in eight bits (`quantize.py`).
    `check=False` skips the hashes and golden vectors (seconds for billions of parameters), never
    the completeness of keys. `merge=True` adds adapters into their layers, for faster inference
    (`merging.py`). `hub` is `revision`, `token` and `local_files_only`, for what has to come from
    the Hub.
    """
    options = hub_options(hub)
    folder = checkpoint_folder(source, **hub)
    with refusing_all(source):
        model = _read(folder, torch.float32 if dtype == torch.int8 else dtype, options)
    model = model.to(device).eval()
    if check:
        with refusing_all(source):
            model.base_digests = base_digests(model)
            check_identity(model, folder)
            check_golden(model, folder)
    if dtype == torch.int8:
        model = quantise(model)
    elif merge:
        model = merge_adapters(model)
    release()
    return model


def release() -> None:
    """Close the files that parts were read from, and give the memory of copies back."""
    forget_gguf()
    forget_ctranslate2()
    return_freed_memory()


@contextmanager
def refusing_all(source: str | Path) -> Iterator[None]:
    """Turn all that is wrong with a checkpoint into a `CheckpointError`, but a missing extra."""
    try:
        with refused(
            source,
            "A file of it, or of the encoder or decoder it names, is damaged or missing; copy or "
            "download it again.",
        ):
            yield
    except (CheckpointError, MissingExtra):
        raise
    except TinyAudioError as error:
        raise CheckpointError(f"{source} cannot be used: {error}") from error


def _read(folder: Path, dtype: torch.dtype, options: dict[str, Any]) -> AudioLM:
    config = AudioLMConfig.from_pretrained(folder, local_files_only=True)
    encoder, decoder = config.encoder, config.language_model
    path = folder / "trained.safetensors"
    shapes = trained_shapes(path)
    check_adapters({part: lora.rank for part, lora in config.lora.items()}, shapes, path)
    parts = (
        load_encoder(replace(encoder, source=inside(encoder.source, folder)), dtype, **options),
        load_decoder(replace(decoder, source=inside(decoder.source, folder)), dtype, **options),
    )
    width = parts[1].get_input_embeddings().embedding_dim
    with torch.device("meta"):
        projector = build_projector(config.projector, config.encoder.width, width)
    check_module(projector, "projector.", shapes, path)
    tokenizer = load_tokenizer(inside(decoder.source, folder), **options)
    release()
    model = assemble(config, *parts, tokenizer)
    overlay(model, unpack(load_file(path)), folder)
    return model


def checkpoint_folder(source: str | Path, **hub: Any) -> Path:
    """Return a checkpoint's folder; what is no local folder is downloaded from the Hub."""
    folder = Path(source)
    if not folder.is_dir():
        if folder.is_absolute() or str(source).startswith(".") or str(source).count("/") != 1:
            raise CheckpointError(
                f"There is no checkpoint folder {source}. Check the path; the current folder is "
                f"{Path.cwd()}."
            )
        folder = download(str(source), **hub)
    for name in ("config.json", "trained.safetensors", "golden.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{source} has no {name}, so it is not a whole checkpoint.{_model_inside(folder)}"
            )
    check_file(folder / "config.json", CONFIG_BYTES)
    return folder


def trained_shapes(path: Path) -> Shapes:
    """Read the shapes of the trained part by name, without the steps of packed matrices."""
    shapes = stored_shapes(path)
    steps = {n for n in shapes if n.endswith(SCALE) and n.removesuffix(SCALE) in shapes}
    return {name: shape for name, shape in shapes.items() if name not in steps}


def _model_inside(folder: Path) -> str:
    """Return the cure where the folder of a run is given in place of the model in it."""
    if (folder / "model" / "config.json").is_file():
        return f" It is the folder of a run; its model is {folder / 'model'}."
    if (folder / "metrics.jsonl").is_file():
        return " It is the folder of a run that has not ended: its model is not written yet."
    return ""


@torch.no_grad()
def overlay(model: AudioLM, trained: dict[str, Tensor], folder: Path) -> None:
    """Put the trained part into the model; every key must be there, and none may be left over."""
    parameters = dict(model.named_parameters())
    recorded = set(model.config.trained or [])
    due = {n for n in parameters if n.startswith("projector.") or "lora_" in n} | recorded
    missing, unexpected = sorted(due - set(trained)), sorted(set(trained) - due)
    wrong = [n for n in trained if n in parameters and trained[n].shape != parameters[n].shape]
    unexpected += sorted(due - set(parameters) - set(missing))
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if problem := described(problems):
        raise CheckpointError(f"{folder}/trained.safetensors is not whole ({problem}).")
    for name, tensor in trained.items():
        # What trains is fp32, whatever it was stored in: a bf16 weight of 1 cannot move by 1e-3
        # (T25).
        parameters[name].data = tensor.float()
        parameters[name].requires_grad_(True)
    for part in ("audio_tower", "language_model"):
        if any(n.startswith(f"{part}.") and "lora_" not in n for n in trained):
            getattr(model, part).float()  # its frozen layers compute with the trained ones


# After `import tiny_audio`, transformers' Auto classes and speech pipeline read our checkpoints.
AutoConfig.register("tiny_audio", AudioLMConfig, exist_ok=True)
for auto in (AutoModel, AutoModelForSpeechSeq2Seq, AutoModelForMultimodalLM):
    auto.register(AudioLMConfig, AudioLMForConditionalGeneration, exist_ok=True)
AutoProcessor.register(AudioLMConfig, PretrainedAudioProcessor, exist_ok=True)
PIPELINE_REGISTRY.supported_tasks["automatic-speech-recognition"]["impl"] = SpeechPipeline
