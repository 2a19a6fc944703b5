"""A Llama-family decoder for training adapters on a CPU: frozen weights, few operations.

What transformers and PEFT compute, in two thirds of the time (3.5 for 4.7 s of a whole step on one
AMX core): query, key and value are one product, gate and up another, each with one pair of adapter
matrices; attention is two batched products, since the fused kernel's backward is slow on CPUs; the
norms have a backward of their own. `tests/recipes/test_tiny.py` compares the two.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tiny_audio.train.hardware import multiplies_bf16

# The layers of a block that are computed as one product each: their module and their names.
PRODUCTS = {
    "qkv": ("self_attn", ("q_proj", "k_proj", "v_proj")),
    "out": ("self_attn", ("o_proj",)),
    "gate_up": ("mlp", ("gate_proj", "up_proj")),
    "down": ("mlp", ("down_proj",)),
}
MASKED = -1e4  # fits bfloat16, and exp of it is 0


class AdaptedLlama(nn.Module):
    """LoRA with scale 1 (alpha = rank) on every linear layer of a frozen model of transformers.

    It computes in bfloat16 where that is faster.
    """

    def __init__(self, model: Any, rank: int):
        super().__init__()
        self.dtype = torch.bfloat16 if multiplies_bf16("cpu") else torch.float32
        config = model.config
        self.num_heads, self.num_kv = config.num_attention_heads, config.num_key_value_heads
        self.head_dim, self.eps = config.head_dim, config.rms_norm_eps
        self.base = [model]  # in a list: its frozen parameters are not this module's
        self.adapters = nn.ParameterDict()
        self.weights: list[dict[str, Tensor]] = []
        for number, block in enumerate(model.model.layers):
            self.weights.append({})
            for product, (part, names) in PRODUCTS.items():
                layers = [getattr(getattr(block, part), name) for name in names]
                joined = torch.cat([layer.weight.detach() for layer in layers])
                self.weights[-1][product] = joined.to(self.dtype).contiguous()
                for name, layer in zip(names, layers, strict=True):
                    self._add(f"{number}-{part}-{name}", layer, rank)
        base = float(config.rope_parameters["rope_theta"])
        frequency = base ** (-torch.arange(0, self.head_dim, 2).float() / self.head_dim)
        angle = torch.arange(2048).float()[:, None] * frequency.repeat(2)
        self.cos, self.sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)

    def _add(self, key: str, layer: nn.Linear, rank: int) -> None:
        down = torch.empty(rank, layer.in_features)
        nn.init.kaiming_uniform_(down, a=5**0.5)
        self.adapters[f"{key}-A"] = nn.Parameter(down)
        self.adapters[f"{key}-B"] = nn.Parameter(torch.zeros(layer.out_features, rank))

    def peft_names(self) -> dict[str, nn.Parameter]:
        """Return the adapters under the names that PEFT gives them within the model."""
        found = {}
        for key, parameter in self.adapters.items():
            number, part, name, which = key.split("-")
            path = f"model.layers.{number}.{part}.{name}.lora_{which}.default.weight"
            found[path] = parameter
        return found

    def embed(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.base[0].get_input_embeddings().weight).to(self.dtype)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        return F.linear(hidden_ND.to(self.dtype), self.base[0].lm_head.weight.to(self.dtype))

    def product(self, x_ND: Tensor, number: int, name: str) -> Tensor:
        part, layers = PRODUCTS[name]
        keys = [f"{number}-{part}-{layer}" for layer in layers]
        down = torch.cat([self.adapters[f"{key}-A"] for key in keys]).to(self.dtype)
        up = torch.block_diag(*(self.adapters[f"{key}-B"] for key in keys)).to(self.dtype)
        frozen = F.linear(x_ND, self.weights[number][name])
        return torch.addmm(frozen, F.linear(x_ND, down), up.t())

    def forward(self, embeds_BLD: Tensor) -> Tensor:
        """Embeddings (B, L, D), padded behind (unseen: causal) → last hidden states."""
        B, L, D = embeds_BLD.shape
        x = embeds_BLD.to(self.dtype).reshape(-1, D)
        hidden = self.base[0].model
        for number, block in enumerate(hidden.layers):
            attended = self.attend(norm(x, block.input_layernorm.weight, self.eps), number, B, L)
            x = x + self.product(attended, number, "out")
            y = norm(x, block.post_attention_layernorm.weight, self.eps)
            gate, up = self.product(y, number, "gate_up").chunk(2, -1)
            x = x + self.product(F.silu(gate) * up, number, "down")
        return norm(x, hidden.norm.weight, self.eps).view(B, L, D)

    def attend(self, x: Tensor, number: int, B: int, L: int) -> Tensor:
        heads, kv, size = self.num_heads, self.num_kv, self.head_dim
        joined = self.product(x, number, "qkv").view(B, L, heads + 2 * kv, size)
        turned = self.rotated(joined[:, :, : heads + kv], L)
        # Queries of heads that share a key are stacked, so that each key needs one product.
        q = (turned[:, :, :heads] * size**-0.5).transpose(1, 2).reshape(B * kv, -1, size)
        k = turned[:, :, heads:].transpose(1, 2).reshape(B * kv, L, size)
        v = joined[:, :, heads + kv :].transpose(1, 2).reshape(B * kv, L, size)
        future = torch.full((L, L), MASKED, dtype=self.dtype).triu(1)
        scores = torch.bmm(q, k.transpose(1, 2)).view(B * kv, -1, L, L) + future
        attended = torch.bmm(scores.softmax(-1).view(B * kv, -1, L), v)
        return attended.view(B, heads, L, size).transpose(1, 2).reshape(B * L, heads * size)

    def rotated(self, x_BLHS: Tensor, L: int) -> Tensor:
        first, second = x_BLHS.chunk(2, -1)
        cos, sin = self.cos[:L, None], self.sin[:L, None]
        return x_BLHS * cos + torch.cat([-second, first], -1) * sin


class Norm(torch.autograd.Function):
    """RMSNorm by a frozen weight, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        values = x.float()
        inverse = torch.rsqrt(values.square().mean(-1, keepdim=True) + eps)
        normed = (values * inverse).to(x.dtype)
        ctx.save_for_backward(normed, weight, inverse)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        normed, weight, inverse = ctx.saved_tensors
        inner = grad * weight
        along = (inner * normed).sum(-1, keepdim=True, dtype=torch.float32) / normed.shape[-1]
        return (inner - normed * along.to(inner.dtype)) * inverse.to(inner.dtype), None, None


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return Norm.apply(x, weight.to(x.dtype), eps)
