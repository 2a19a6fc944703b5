"""Writing a GGUF file or a Whisper for CTranslate2 in the Hub's layout.

config.json, model.safetensors, tokenizer, generation_config.json, and what makes features for
Whisper (preprocessor_config.json): a folder that transformers and this library read.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from tiny_audio.model.ctranslate2 import read_ct2, token_ids
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.gguf import PLAIN, read_gguf
from tiny_audio.model.hub import architecture_of, quantisation_of, read_part, read_tokenizer
from tiny_audio.model.saving import write_part
from tiny_audio.model.sources import kind_of, located

# Whisper's vocabulary for many languages has one token more than that for English.
MULTILINGUAL = 51865


@dataclass(frozen=True)
class Converted:
    """The result of `convert`; `quantisation` is that of the source, "" for none."""

    folder: Path
    family: str
    parameters: int
    dtype: torch.dtype
    quantisation: str

    def files(self) -> list[tuple[str, int]]:
        """Return names and bytes of the files."""
        return [(path.name, path.stat().st_size) for path in sorted(self.folder.iterdir())]


def convert(source: str, out: Path, dtype: torch.dtype | None = None) -> Converted:
    """Write the part at `source` into the folder `out`, which must be new or empty.

    Without `dtype` the weights are stored in the smallest type that holds all of them exactly.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not empty; choose another folder for --out.")
    place = located(source)
    if (kind := kind_of(place)) == "hub":
        raise CheckpointError(
            f"{source} is no GGUF file and no CTranslate2 folder. What is in the Hub's layout "
            f"needs no conversion: give it as the encoder or decoder as it is."
        )
    dtype = dtype or exact_dtype(kind, place)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        write = write_whisper if kind == "ctranslate2" else write_decoder
        model = write(place, fresh / "part", dtype)
        for path in (fresh / "part").iterdir():
            path.chmod(0o644)
        try:
            (fresh / "part").replace(out)
        except OSError as error:
            raise CheckpointError(
                f"{out} is no longer empty: something else was written to it meanwhile. Choose "
                f"another folder for --out."
            ) from error
    finally:
        shutil.rmtree(fresh)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    quantisation = quantisation_of(place)
    return Converted(out, model.config.model_type, parameters, dtype, quantisation)


def exact_dtype(kind: str, place: str) -> torch.dtype:
    """Return 16 bits where all the source's numbers have the same kind of 16 bits, else float32."""
    if kind == "gguf":
        types = {
            PLAIN.get(tensor.type, torch.float32) for tensor in read_gguf(place).stored.values()
        }
    else:
        matrices = [v for v in read_ct2(place).variables.values() if v.shape]
        types = {v.dtype if v.dtype.is_floating_point else torch.float32 for v in matrices}
    return types.pop() if len(types) == 1 else torch.float32


def write_decoder(place: str, folder: Path, dtype: torch.dtype) -> Any:
    """Write a language model with its tokenizer and chat template."""
    model = read(AutoModelForCausalLM, place, dtype)
    write_part(model, folder, None, quantisation=quantisation_of(place))
    model.generation_config.save_pretrained(folder)
    read_tokenizer(place).save_pretrained(folder)
    return model


def write_whisper(place: str, folder: Path, dtype: torch.dtype) -> Any:
    """Write all of Whisper, with what turns sound into features and ids into text."""
    model = read(WhisperForConditionalGeneration, place, dtype)
    write_part(model, folder, None, quantisation=quantisation_of(place))
    ids = token_ids(Path(place))
    generation(
        model.config, ids, json.loads(Path(place, "config.json").read_text())
    ).save_pretrained(folder)
    mels = model.config.num_mel_bins
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(
        place, tokenizer_file=str(Path(place, "tokenizer.json")), trust_remote_code=False
    )
    tokenizer.save_pretrained(folder)
    return model


def read(kind: Any, place: str, dtype: torch.dtype) -> Any:
    """Read a whole model of its source's own architecture."""
    values = architecture_of(place)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    model = read_part(kind, place, config, dtype, {})
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype
    return model


def generation(config: Any, ids: dict[str, int], notes: dict[str, Any]) -> GenerationConfig:
    """Return Whisper's generation settings: the ids that begin and end a text, and forbidden ids.
    `notes` is the config.json of faster-whisper.
    """
    languages = {f"<|{code}|>" for code in TO_LANGUAGE_CODE.values()}
    found = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "decoder_start_token_id": config.decoder_start_token_id,
        "no_timestamps_token_id": ids.get("<|notimestamps|>"),
        "prev_sot_token_id": ids.get("<|startofprev|>"),
        "suppress_tokens": notes.get("suppress_ids"),
        "begin_suppress_tokens": notes.get("suppress_ids_begin"),
        "alignment_heads": notes.get("alignment_heads"),
        "max_length": config.max_target_positions,
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
        "is_multilingual": config.vocab_size >= MULTILINGUAL,
    }
    if found["is_multilingual"]:
        tasks = ("transcribe", "translate")
        found["lang_to_id"] = {token: number for token, number in ids.items() if token in languages}
        found["task_to_id"] = {task: ids[f"<|{task}|>"] for task in tasks}
    return GenerationConfig(**{key: value for key, value in found.items() if value is not None})
