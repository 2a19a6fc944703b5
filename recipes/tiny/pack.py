"""Writing the trained weights as the preset's folder: `uv run python -m recipes.tiny.pack`.

`python -m recipes.tiny.pack --without-adapters --out runs/tiny/frozen` writes the shipped preset
with SmolLM2 as it is, to measure what the adapters bring.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.tiny.paths import RUNS
from recipes.tiny.train import used_tokens
from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, encoder_id
from tiny_audio.infer.token_head import TokenHead
from tiny_audio.model.decoding import DecodingConfig
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save
from tiny_audio.presets import SHIPPED, build, load, preset
from tiny_audio.train.saves import last_save, module_weights

PARTS = {"encoder.": "audio_tower.", "projector.": "projector."}
ADAPTER, HEAD, TOKEN_HEAD = "decoder.adapters.", "head.", "token_head."
# Chosen with `recipes.tiny.decoding`, on clips that no published figure is of.
DECODING = DecodingConfig(beams=4, ctc_weight=0.3, min_logprob=-1.8)


def named(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the run's weights to `AudioLM`'s names, without the CTC heads."""
    found = {}
    for name, tensor in trained.items():
        for old, new in PARTS.items():
            if name.startswith(old):
                found[new + name.removeprefix(old)] = tensor
        if name.startswith(ADAPTER):
            number, part, layer, which = name.removeprefix(ADAPTER).split("-")
            path = f"language_model.model.layers.{number}.{part}.{layer}"
            found[f"{path}.lora_{which}.default.weight"] = tensor
    return found


@torch.no_grad()
def assembled(trained: dict[str, Tensor]) -> AudioLM:
    """Return the preset's frozen parts with all weights that the run trained."""
    model = build("tiny")
    model.config.decoding_config = DECODING.to_dict()
    model.add_lora("decoder", preset("tiny").lora["decoder"])
    parameters = dict(model.named_parameters())
    for name, tensor in named(trained).items():
        parameters[name].copy_(tensor)
    return model


def pack(run: Path, folder: Path) -> None:
    """Write the newest save of `run` into `folder`, in eight bits, and the heads' folders.

    The heads belong to the encoder and the projector as they are stored, so those are read again
    first.
    """
    # In the decoder stage `start` is all that the CTC stage trained.
    weights = module_weights(last_save(run))
    trained = {name.removeprefix("start."): tensor for name, tensor in weights.items()}
    with tempfile.TemporaryDirectory() as temporary:  # the preset's folder holds code as well
        saved = save(assembled(trained), Path(temporary) / "tiny", dtype=torch.int8)
        shutil.copytree(saved, folder, dirs_exist_ok=True)
    stored = load(folder)
    width = stored.config.encoder.width
    head = CtcHead(CtcHeadConfig(width=width, encoder=encoder_id(stored.audio_tower)))
    kept = {k.removeprefix(HEAD): v for k, v in trained.items() if k.startswith(HEAD)}
    head.load_state_dict(kept)
    head.save(folder / "ctc")
    token_head(trained, stored).save(folder / "tokens", stored)


@torch.no_grad()
def token_head(trained: dict[str, Tensor], model: AudioLM) -> TokenHead:
    """Return the CTC head of the decoder's tokens."""
    table: Any = model.get_input_embeddings()
    head = TokenHead.fresh(used_tokens(model), table.weight)
    for name, parameter in head.named_parameters():
        parameter.copy_(trained[TOKEN_HEAD + name])
    return head


@torch.no_grad()
def without_adapters(folder: Path) -> None:
    """Write the shipped preset with adapters that add nothing."""
    model = load("tiny")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.zero_()
    save(model, folder, dtype=torch.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=RUNS / "decoder")
    parser.add_argument("--out", type=Path, default=SHIPPED["tiny"])
    parser.add_argument("--without-adapters", action="store_true")
    options = parser.parse_args()
    if options.without_adapters:
        if options.out == SHIPPED["tiny"]:
            parser.error("--without-adapters needs --out: the preset itself keeps its adapters.")
        without_adapters(options.out)
    else:
        pack(options.run, options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors"))
    print(f"{options.out}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
