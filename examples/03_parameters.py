"""Parameters by component: what is there, and what of it trains."""

from options import model_of, options, title
from torch import nn

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
    model = model_of(args)
    count(f"{args.model} ENCODER", model.encoder)
    count(f"{args.model} PROJECTOR", model.projector)
    count(f"{args.model} DECODER", model.decoder)
    count(f"{args.model} ALL", model)

if args.scale != "nano":
    model = true_scale("hubert_swiglu_qwen3")  # on `meta`, with the preset's LoRA
    count("ENCODER (HuBERT-xlarge + LoRA r=8 on q, k)", model.encoder)
    count(f"PROJECTOR (SwiGLU, 1280 → {model.config.llm_dim})", model.projector)
    count("DECODER (Qwen3-8B + LoRA r=32 on q, v)", model.decoder)
    count("ALL", model)
