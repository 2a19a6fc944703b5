"""Storing trained weights in eight bits: the checkpoint is half as large as in bfloat16.

Only the file is small. `load` makes float32 of it again, so nothing is computed in eight bits; that
is `quantize.py`.
"""

import torch
from torch import Tensor

SCALE = ".scale"  # NAME.scale holds the step of every row of NAME


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Store matrices as int8 with one float32 step per row, and vectors as bfloat16.

    The largest value of a row becomes ±127, so no weight is off by more than 1/254 of it.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.dim() < 2:
            packed[name] = tensor.bfloat16() if tensor.is_floating_point() else tensor
            continue
        values = tensor.float()
        step = values.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        rows = step.view(-1, *[1] * (tensor.dim() - 1))
        packed[name] = (values / rows).round().to(torch.int8).contiguous()
        packed[name + SCALE] = step
    return packed


def unpack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`; what is not int8 stays as it is."""
    plain = {}
    for name, tensor in state.items():
        step = state.get(name + SCALE)
        if tensor.dtype == torch.int8 and step is not None:
            plain[name] = tensor.float() * step.view(-1, *[1] * (tensor.dim() - 1))
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) in state):
            plain[name] = tensor
    return plain


def rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight as it will be read again from a file of this dtype, in its own dtype."""
    if dtype == torch.int8:
        return unpack(pack({"": tensor}))[""].to(tensor.dtype)
    return tensor.to(dtype).to(tensor.dtype)
