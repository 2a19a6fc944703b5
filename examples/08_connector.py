"""MuFun's connector by hand: shapes, GELU, parameters, memory."""

import torch
from options import options, title
from torch import Tensor
from torch.nn import functional as F

from tiny_audio.model.projector import BlpConfig, BlpProjector

args = options(__doc__)


def walk(connector: BlpProjector, frames_BTE: Tensor) -> Tensor:
    """Two linear layers with a GELU between them: what `connector(frames)` does."""
    expanded = connector.linear_1(frames_BTE)
    output = connector.linear_2(F.gelu(expanded))
    for name, values in {"input": frames_BTE, "hidden": expanded, "output": output}.items():
        print(f"{name:<7} {list(values.shape)!s:<17} {values.numel():>10,} numbers")
    for name in ("linear_1", "linear_2"):
        layer = getattr(connector, name)
        print(f"{name}: {layer.weight.numel():,} + {layer.bias.numel():,} parameters")
    total = sum(p.numel() for p in connector.parameters())
    print(f"all: {total:,} parameters, {2 * total:,} bytes in bfloat16")
    return output


title("GELU")
points = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
print(" ".join(f"{value:.3f}" for value in F.gelu(points)))

if args.scale != "true":
    title("small: 4 layers × 64 → 512 → 256, 6 positions")
    connector = BlpProjector(BlpConfig(expand=2), encoder_dim=256, decoder_dim=256)
    frames_BTE = torch.randn(1, 6, 256)
    torch.testing.assert_close(walk(connector, frames_BTE), connector(frames_BTE))

if args.scale != "nano":
    for decoder, width in {"Qwen2.5-7B": 3584, "Qwen3-8B": 4096}.items():
        title(f"true scale: 4 × 1280 → 10240 → {width} ({decoder}), 30 s at 20 Hz")
        with torch.device("meta"):
            connector = BlpProjector(BlpConfig(expand=2), encoder_dim=5120, decoder_dim=width)
            walk(connector, torch.empty(1, 600, 5120))
