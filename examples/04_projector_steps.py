"""The SwiGLU projector in six steps, with RMS before and after each norm."""

import torch
from options import model_of, options, title
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio import load_audio
from tiny_audio.model.projection import stack_frames
from tiny_audio.model.projector import SwigluConfig, SwigluProjector

args = options(__doc__)


def rms(values: Tensor) -> str:
    """Root mean square; on `meta` there are no values to square."""
    return "–" if values.is_meta else f"{values.square().mean().sqrt():.4f}"


def norm(name: str, module: nn.Module, before: Tensor) -> Tensor:
    after = module(before)
    print(f"{name}: {list(after.shape)}, RMS {rms(before)} → {rms(after)}")
    return after


@torch.inference_mode()
def walk(projector: SwigluProjector, frames_BTE: Tensor) -> Tensor:
    """What `projector(frames)` does, by hand."""
    num_frames, k = frames_BTE.shape[1], projector.k
    print(f"1 encoder frames: {list(frames_BTE.shape)}, RMS {rms(frames_BTE)}")
    stacked = stack_frames(frames_BTE, k)
    padded = stacked.shape[1] * k
    print(f"2 stacked by {k}: {num_frames} → {padded} frames → {list(stacked.shape)}")
    normed = norm("3 ln_pre", projector.ln_pre, stacked)
    gate, up = projector.gate_proj(normed), projector.up_proj(normed)
    print(f"4 SiLU(gate) × up: {list(gate.shape)} and {list(up.shape)}")
    down = projector.down_proj(F.silu(gate) * up)
    print(f"5 down_proj: {list(down.shape)}")
    output = norm("6 ln_post", projector.ln_post, down)
    print(f"Each position covers {20 * k} ms; the decoder reads {output.shape[1]} of them.")
    return output


if args.scale != "true":
    title(args.model)
    model = model_of(args)
    frames_BTE = model.encode(load_audio(args.file).samples[:48_000], 16_000)
    by_hand = walk(model.projector, frames_BTE)
    torch.testing.assert_close(by_hand, model.projector(frames_BTE))
    words = model.decoder.get_input_embeddings().weight
    print(f"RMS of the decoder's own words: {rms(words)}")

if args.scale != "nano":
    title("true scale: HuBERT-xlarge (1280) to 2048")
    with torch.device("meta"):
        projector = SwigluProjector(SwigluConfig(k=5, hidden=8192), 1280, 2048)
        walk(projector, torch.empty(1, 149, 1280))
    print(f"Parameters: {sum(p.numel() for p in projector.parameters()):,}")
