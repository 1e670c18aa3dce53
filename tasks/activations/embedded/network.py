"""The network of the training: a small causal transformer in plain torch.

It computes what Transformers' Llama and GPT-NeoX (sequential residual) classes compute; `export`
renames its weights for them. Shapes: B windows, T tokens, D d_model, H heads, E head width,
M d_mlp, V vocabulary.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.activations.embedded.recipes import Recipe

NORM_EPS = 1e-5
ROPE_BASE = 10_000.0


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions on the full head width."""

    def __init__(self, recipe: Recipe, bias: bool) -> None:
        super().__init__()
        self.n_heads = recipe.n_heads
        self.q = nn.Linear(recipe.d_model, recipe.d_model, bias=bias)
        self.k = nn.Linear(recipe.d_model, recipe.d_model, bias=bias)
        self.v = nn.Linear(recipe.d_model, recipe.d_model, bias=bias)
        self.o = nn.Linear(recipe.d_model, recipe.d_model, bias=bias)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        q_BHTE, k_BHTE, v_BHTE = (
            layer(x_BTD).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        q_BHTE = rotate(q_BHTE, cos_TE, sin_TE).to(v_BHTE.dtype)
        k_BHTE = rotate(k_BHTE, cos_TE, sin_TE).to(v_BHTE.dtype)
        z_BHTE = functional.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)
        mixed: Tensor = self.o(z_BHTE.transpose(1, 2).flatten(-2))
        return mixed


class GatedMlp(nn.Module):
    """``down(silu(gate(x)) * up(x))``, as in Llama."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.gate = nn.Linear(recipe.d_model, recipe.d_mlp, bias=False)
        self.up = nn.Linear(recipe.d_model, recipe.d_mlp, bias=False)
        self.down = nn.Linear(recipe.d_mlp, recipe.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x_BTD)) * self.up(x_BTD))
        return out


class Mlp(nn.Module):
    """``down(gelu(up(x)))`` with biases, as in GPT-NeoX."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.up = nn.Linear(recipe.d_model, recipe.d_mlp)
        self.down = nn.Linear(recipe.d_mlp, recipe.d_model)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(x_BTD)))
        return out


class Block(nn.Module):
    """Pre-norm block: attention, then MLP, each added to the residual stream."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        is_llama = recipe.layout == "llama"
        self.norm_attn = make_norm(recipe)
        self.attn = Attention(recipe, bias=not is_llama)
        self.norm_mlp = make_norm(recipe)
        self.mlp = GatedMlp(recipe) if is_llama else Mlp(recipe)
        self.dropout = recipe.dropout

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        attn_BTD = self.attn(self.norm_attn(x_BTD), cos_TE, sin_TE)
        x_BTD = x_BTD + functional.dropout(attn_BTD, self.dropout, self.training)
        return x_BTD + functional.dropout(self.mlp(self.norm_mlp(x_BTD)), self.dropout, self.training)


class Network(nn.Module):
    """Token ids (B, T) to logits (B, T, V); input and output embeddings are one matrix."""

    cos_TE: Tensor
    sin_TE: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.embed = nn.Embedding(recipe.vocab_size, recipe.d_model)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.n_layers))
        self.norm_final = make_norm(recipe)
        self.dropout = recipe.dropout
        cos_TE, sin_TE = rotary_tables(recipe.context_length, recipe.d_model // recipe.n_heads)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)
        initialise(self, recipe)

    def forward(self, token_ids_BT: Tensor) -> Tensor:
        n_tokens = token_ids_BT.shape[1]
        cos_TE, sin_TE = self.cos_TE[:n_tokens], self.sin_TE[:n_tokens]
        x_BTD = functional.dropout(self.embed(token_ids_BT), self.dropout, self.training)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_TE, sin_TE)
        return functional.linear(self.norm_final(x_BTD), self.embed.weight)


def make_norm(recipe: Recipe) -> nn.Module:
    """The norm of the layout."""
    norm = nn.RMSNorm if recipe.layout == "llama" else nn.LayerNorm
    return norm(recipe.d_model, eps=NORM_EPS)


def rotary_tables(context_length: int, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, E) of rotary position embedding (arXiv:2104.09864, half-split form)."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    angles_TE = torch.outer(torch.arange(context_length).double(), ROPE_BASE**-exponents).repeat(1, 2)
    return angles_TE.cos().float(), angles_TE.sin().float()


def rotate(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Rotate each pair (e, e + E/2) by its position's angle."""
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * cos_TE + torch.cat((-second, first), dim=-1) * sin_TE


def initialise(network: Network, recipe: Recipe) -> None:
    """Normal(0, 1/sqrt(fan in)) matrices, residual writers at a small fraction, zero biases."""
    generator = torch.Generator().manual_seed(recipe.seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            scale = 0.02 if name.startswith("embed") else 1 / math.sqrt(parameter.shape[1])
            if ".o." in name or ".down." in name:
                scale /= 2 * math.sqrt(2 * recipe.n_layers)
            nn.init.normal_(parameter, std=scale, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
