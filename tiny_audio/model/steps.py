"""Computing the logits of the next token again and again, with a key-value cache.

Two ways to the same numbers (a contract test compares them). `PlainSteps` calls any causal language
model of transformers. `FastSteps` walks through the modules of the families below itself: without
transformers' work per call, without padding in the prompt, and at the last layer only for the
positions that are read (nano, 32 prompts of 62 positions: half the time; `docs/decisions/022`).

Letters: N inputs (all real positions of a prompt, or one a row), H heads, G heads that share a key,
C head width, S positions of the cache.
"""

from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from .modeling import positions_of

# The cache grows by this many tokens: most answers end long before their limit.
BUCKET = 32


class Steps(Protocol):
    """A decoder as `write` and `search` see it."""

    def begin(self, embeds_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """Compute the logits (B, V) of the first token after left-padded prompts."""

    def next(self, ids_B: Tensor) -> Tensor:
        """Compute the logits (B, V) of the tokens after the chosen ones."""

    def keep(self, rows_B: Tensor) -> None:
        """Continue with these rows, in this order; a row that is listed twice becomes two rows."""


def steps_of(language_model: PreTrainedModel, plain: bool = False) -> Steps:
    """Choose the fast way where it gives the same, else (or if `plain`) transformers' own."""
    if plain or not is_walkable(language_model):
        return PlainSteps(language_model)
    return FastSteps(language_model)


class PlainSteps:
    """The language model's own forward."""

    def __init__(self, language_model: PreTrainedModel):
        self.language_model: Any = language_model

    def begin(self, embeds_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        self.mask_BL, self.cache = mask_BL, cast(Any, None)
        return self._call(inputs_embeds=embeds_BLD, position_ids=positions_of(mask_BL))

    def next(self, ids_B: Tensor) -> Tensor:
        self.mask_BL = F.pad(self.mask_BL, (0, 1), value=1)
        positions_B1 = positions_of(self.mask_BL)[:, -1:]
        return self._call(input_ids=ids_B[:, None], position_ids=positions_B1)

    def keep(self, rows_B: Tensor) -> None:
        self.mask_BL = self.mask_BL[rows_B]
        self.cache.batch_select_indices(rows_B)

    def _call(self, **inputs: Tensor) -> Tensor:
        out = self.language_model(
            **inputs,
            attention_mask=self.mask_BL,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = out.past_key_values
        return cast(Tensor, out.logits[:, -1])


# The fast way -------------------------------------------------------------------------------------


class Family(NamedTuple):
    """The differences between a family and Llama."""

    qk_norm: bool = False  # queries and keys are normalised, head by head
    rope_by_layer: bool = False  # some layers know no positions
    may_slide: bool = False  # some layers may see the last positions only


FAMILIES = {
    "llama": Family(),
    "qwen3": Family(qk_norm=True, may_slide=True),
    "smollm3": Family(rope_by_layer=True, may_slide=True),
}
# Rotations that depend on the position alone, not on how long the text has become.
FIXED_ROPE = ("default", "linear", "llama3", "yarn")


def is_walkable(language_model: PreTrainedModel) -> bool:
    """Tell whether `FastSteps` computes what this model's forward would.

    Adapters and quantised layers are called as usual. Hooks on the blocks would not run.
    """
    config: Any = language_model.config
    family = FAMILIES.get(config.model_type)
    if family is None or config.rope_parameters["rope_type"] not in FIXED_ROPE:
        return False
    if any(m._forward_hooks or m._forward_pre_hooks for m in language_model.modules()):
        return False
    layers = cast(Any, language_model).model.layers
    return not (family.may_slide and any(layer.self_attn.sliding_window for layer in layers))


class Cells(NamedTuple):
    """The places of N inputs: cells of the cache, and the rotations of their queries and keys."""

    rows: Any  # as an index: of N inputs, or of every row
    columns: Any
    cos_N1C: Tensor
    sin_N1C: Tensor  # negative in its first half, so that turning is two products

    @property
    def are_prompts(self) -> bool:
        return isinstance(self.columns, Tensor)


class FastSteps:
    """Llama, Qwen3 and SmolLM3, module by module over a preallocated cache (B, H, S, C)."""

    def __init__(self, language_model: PreTrainedModel):
        self.language_model: Any = language_model
        self.layers = list(self.language_model.model.layers)
        self.family = FAMILIES[self.language_model.config.model_type]

    def begin(self, embeds_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        num_rows, self.used = mask_BL.shape
        self.lengths_B = mask_BL.sum(1)
        attention = self.layers[0].self_attn
        heads = self.language_model.config.num_key_value_heads
        empty = embeds_BLD.new_zeros(num_rows, heads, self.used, attention.head_dim)
        self.keys, self.values = ([empty] * len(self.layers) for _ in range(2))
        # What padding adds to a score; what is written later adds nothing.
        self.bias_BS = torch.zeros_like(mask_BL, dtype=embeds_BLD.dtype)
        self.bias_BS.masked_fill_(~mask_BL.bool(), torch.finfo(embeds_BLD.dtype).min)
        self._grow()
        rows_N, columns_N = mask_BL.nonzero(as_tuple=True)
        cells = self._cells(rows_N, columns_N, positions_of(mask_BL)[rows_N, columns_N])
        return self._walk(embeds_BLD[rows_N, columns_N], cells)

    def next(self, ids_B: Tensor) -> Tensor:
        if self.used == self.bias_BS.shape[1]:
            self._grow()
        cells = self._cells(slice(None), self.used, self.lengths_B)
        self.used += 1
        self.lengths_B = self.lengths_B + 1
        x_BD = self.language_model.model.embed_tokens(ids_B)
        return self._walk(x_BD, cells)

    def keep(self, rows_B: Tensor) -> None:
        self.keys = [k[rows_B] for k in self.keys]
        self.values = [v[rows_B] for v in self.values]
        self.bias_BS, self.lengths_B = self.bias_BS[rows_B], self.lengths_B[rows_B]

    def _grow(self) -> None:
        """Make room for a bucket of tokens more, and rotations for every position."""
        self.keys = [F.pad(k, (0, 0, 0, BUCKET)) for k in self.keys]
        self.values = [F.pad(v, (0, 0, 0, BUCKET)) for v in self.values]
        self.bias_BS = F.pad(self.bias_BS, (0, BUCKET))
        positions_1S = torch.arange(self.bias_BS.shape[1], device=self.bias_BS.device)[None]
        cos, sin = self.language_model.model.rotary_emb(self.bias_BS, positions_1S)
        half = sin.shape[-1] // 2
        self.cos_SC = cos[0]
        self.sin_SC = torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)

    def _cells(self, rows: Any, columns: Any, positions_N: Tensor) -> Cells:
        return Cells(rows, columns, self.cos_SC[positions_N, None], self.sin_SC[positions_N, None])

    def _walk(self, x_ND: Tensor, cells: Cells) -> Tensor:
        """Compute logits (B, V) behind the last position of every row."""
        for number, layer in enumerate(self.layers):
            own = layer.self_attn
            normed_ND = normalised(layer.input_layernorm, x_ND)
            self._store(number, normed_ND, cells)
            if cells.are_prompts and number == len(self.layers) - 1:
                # Nothing reads the other positions any more.
                is_end_N = cells.columns == self.used - 1
                x_ND, normed_ND = x_ND[is_end_N], normed_ND[is_end_N]
                cells = self._cells(slice(None), self.used - 1, self.lengths_B - 1)
            queries = self._turned(number, own.q_proj(normed_ND), "q_norm", cells)
            attend = self._attend_prompts if cells.are_prompts else self._attend_ends
            x_ND = x_ND + own.o_proj(attend(number, queries, cells).flatten(1))
            x_ND = x_ND + layer.mlp(normalised(layer.post_attention_layernorm, x_ND))
        x_BD = normalised(self.language_model.model.norm, x_ND)
        return cast(Tensor, self.language_model.lm_head(x_BD))

    def _store(self, number: int, normed_ND: Tensor, cells: Cells) -> None:
        own, at = self.layers[number].self_attn, (cells.rows, slice(None), cells.columns)
        keys = self._turned(number, own.k_proj(normed_ND), "k_norm", cells)
        values = own.v_proj(normed_ND).view(len(normed_ND), -1, own.head_dim)
        # Under autocast they come in another dtype than the prompt's.
        self.keys[number][at] = keys.to(self.keys[number].dtype)
        self.values[number][at] = values.to(self.values[number].dtype)

    def _turned(self, number: int, flat: Tensor, norm: str, cells: Cells) -> Tensor:
        """Normalise queries or keys (N, H, C), if the family does, and rotate them by position."""
        own = self.layers[number].self_attn
        heads_NHC = flat.view(len(flat), -1, own.head_dim)
        if self.family.qk_norm:
            heads_NHC = normalised(own.get_submodule(norm), heads_NHC)
        if self.family.rope_by_layer and not own.use_rope:
            return heads_NHC
        swapped = heads_NHC.roll(own.head_dim // 2, -1)
        return heads_NHC * cells.cos_N1C + swapped * cells.sin_N1C

    def _attend_ends(self, number: int, queries_BHC: Tensor, _: Cells) -> Tensor:
        """Attend with one query a row; heads that share a key become queries of one head."""
        keys, values = self.keys[number], self.values[number]
        grouped = queries_BHC.view(len(keys), keys.shape[1], -1, keys.shape[-1])
        bias = self.bias_BS[:, None, None, : self.used]
        own = self.layers[number].self_attn
        seen = (keys[:, :, : self.used], values[:, :, : self.used])
        attended = F.scaled_dot_product_attention(grouped, *seen, bias, scale=own.scaling)
        return attended.flatten(1, 2)

    def _attend_prompts(self, number: int, queries_NHC: Tensor, cells: Cells) -> Tensor:
        """Attend within whole prompts, which are padded for this product alone."""
        keys, values = self.keys[number], self.values[number]
        num_rows, length = len(keys), self.used
        own = self.layers[number].self_attn
        padded = queries_NHC.new_zeros(num_rows, length, *queries_NHC.shape[1:])
        padded[cells.rows, cells.columns] = queries_NHC
        ahead_LL = torch.ones(length, length, dtype=torch.bool, device=padded.device).triu(1)
        lowest = torch.finfo(padded.dtype).min
        bias = self.bias_BS[:, None, None, :length].masked_fill(ahead_LL, lowest)
        attended = F.scaled_dot_product_attention(
            padded.transpose(1, 2),
            keys[:, :, :length],
            values[:, :, :length],
            bias,
            scale=own.scaling,
            enable_gqa=True,
        )
        return attended.transpose(1, 2)[cells.rows, cells.columns]


def normalised(norm: Any, x: Tensor) -> Tensor:
    """Apply RMSNorm in one call, in its weight's dtype: under autocast that of `x` is another."""
    same = x.to(norm.weight.dtype)
    return F.rms_norm(same, x.shape[-1:], norm.weight, norm.variance_epsilon).to(x.dtype)
