"""What was trained, written as the preset's folder: `uv run python -m recipes.tiny.pack RUN`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiny_audio.infer.ctc_head import CtcHead, CtcHeadConfig, encoder_id
from tiny_audio.model.modeling import AudioLM
from tiny_audio.model.saving import save
from tiny_audio.presets import SHIPPED, build, preset

PARTS = {"net.enc.": "audio_tower.", "net.proj.": "projector.", "lm.": "language_model."}


def renamed(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """The run's names → those of `AudioLM`; the CTC parts have no place in it."""
    return {
        new + name.removeprefix(old): tensor
        for name, tensor in trained.items()
        for old, new in PARTS.items()
        if name.startswith(old)
    }


@torch.no_grad()
def assembled(trained: dict[str, Tensor]) -> AudioLM:
    """The preset's frozen parts with everything that the run trained."""
    model = build("tiny")
    if any("lora_" in name for name in trained):
        model.add_lora("decoder", preset("tiny").lora["decoder"])
    parameters = dict(model.named_parameters())
    for name, tensor in renamed(trained).items():
        if name in parameters:
            parameters[name].copy_(tensor)
    return model


def head_of(trained: dict[str, Tensor], model: AudioLM, config: CtcHeadConfig) -> CtcHead:
    """The character head that was trained beside the projector, bound to the stored encoder."""
    prefix = "net.head."
    head = CtcHead(replace(config, encoder=encoder_id(model.audio_tower)))
    head.load_state_dict(
        {k.removeprefix(prefix): v for k, v in trained.items() if k.startswith(prefix)}
    )
    return head


def pack(run: Path, folder: Path) -> None:
    """`run`/last.pt → `folder`, the trained part in eight bits."""
    saved: dict[str, Any] = torch.load(run / "last.pt", weights_only=True)
    trained = saved.get("train") or {f"net.{k}": v for k, v in saved["net"].items()}
    model = assembled(trained)
    save(model, folder, dtype=torch.int8)
    from tiny_audio import load  # the head belongs to the encoder as it is stored

    stored = load(folder)
    head_of(trained, stored, CtcHeadConfig(width=384, encoder="")).save(folder / "ctc")


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else SHIPPED["tiny"])
