"""Parameters by component: what is there, and what of it trains."""

from options import options, title
from torch import nn

from tiny_audio import load
from tiny_audio.scope.plan.parameters import true_scale

args = options(__doc__)


def count(name: str, module: nn.Module) -> None:
    """Total, trainable and frozen parameters of a module; a tied weight is counted once."""
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    title(name)
    print(f"  Total params:     {total:>15,}")
    print(f"  Trainable params: {trainable:>15,}")
    print(f"  Frozen params:    {total - trainable:>15,}")
    print(f"  Trainable:        {100 * trainable / total:>14.2f}%")


if args.scale != "true":
    model = load("nano")
    count("nano ENCODER", model.encoder)
    count("nano PROJECTOR", model.projector)
    count("nano DECODER", model.decoder)
    count("nano ALL", model)

if args.scale != "nano":
    model = true_scale("hubert_swiglu_qwen3")  # on `meta`, with the preset's LoRA
    count("ENCODER (HuBERT-xlarge + LoRA r=8 on q, k)", model.encoder)
    count(f"PROJECTOR (SwiGLU, 1280 → {model.config.llm_dim})", model.projector)
    count("DECODER (Qwen3-8B + LoRA r=32 on q, v)", model.decoder)
    count("ALL", model)
    print("\nEarlier texts say 1,267,200,000 and 8,000,000,000: round guesses, not these modules.")
    print("Their projector ended at 2048, but Qwen3-8B is 4096 wide: 138,422,528, not 121,643,264.")
