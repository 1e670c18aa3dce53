"""Models made from other models on loading: redrawn weights, a merged adapter, quantised weights.

Nothing is written: the files of the base stay the only copy, and a digest over the base and what is done to
it tells one derived model from another.
"""

import hashlib
import json
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from catalog.errors import UserError
from tasks.activations.models.adapters import adapter_facts, merge_adapter, read_adapter
from tasks.activations.models.source import ModelConfig, Quantisation, model_folder, weights_digest

_RANGES: dict[Quantisation, tuple[int, int]] = {"int8": (-128, 127), "int4": (-8, 7)}
GROUP_SIZE = 32
"""Neighbouring weights of a row that share a scale in int4: the block of llama.cpp's Q4_0."""


class QuantisationError(NamedTuple):
    """What rounding the weights costs."""

    scheme: str
    """Number format, granularity and the function that rounds."""
    error: float
    """Squared error over the squared weights, all quantised weights together."""


def derivation(config: ModelConfig) -> dict[str, Any]:
    """What is done to the stored weights, as plain values; empty for a model that is run as it is stored."""
    facts: dict[str, Any] = {}
    if config.source == "reinitialised":
        facts["reinitialised"] = {"seed": config.seed, "draw": "normal, mean and deviation per tensor"}
    if config.adapter is not None:
        facts["adapter"] = adapter_facts(read_adapter(config.adapter))
    if config.quantise is not None:
        facts["quantised"] = scheme(config.quantise)
    return facts


def run_digest(config: ModelConfig) -> str:
    """SHA-256 that tells the weights that are run: that of the files where nothing is done to them.

    Raises:
        UserError: when the files of the model or of its adapter are missing, unsafe or damaged.
    """
    stored, facts = weights_digest(model_folder(config)), derivation(config)
    if not facts:
        return stored
    text = json.dumps({"weights": stored, **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def derive(model: nn.Module, config: ModelConfig, output: nn.Module | None) -> QuantisationError | None:
    """Change a loaded model in place as its configuration says.

    Args:
        model: With its stored weights.
        config: Says what to do; the order is: redraw, merge the adapter, quantise.
        output: The layer that gives the logits; it keeps its precision, as is usual.

    Returns:
        What quantising cost, or None.

    Raises:
        UserError: for an adapter of another model, and for a model without weights that can be quantised.
    """
    if config.source == "reinitialised":
        reinitialise(model, config.seed or 0)
    if config.adapter is not None:
        merge_adapter(model, read_adapter(config.adapter))
    return None if config.quantise is None else quantise(model, config, output)


@torch.no_grad()
def reinitialise(model: nn.Module, seed: int) -> None:
    """Redraw every parameter from a normal distribution with its own mean and standard deviation.

    The random-weights floor of Heap et al. 2025 (arXiv 2501.17727): statistics of the weights stay, what
    training wrote into them goes. Each tensor has a generator of its own, seeded by ``seed`` and its name.
    """
    for name, parameter in model.named_parameters():
        own = hashlib.sha256(f"{seed}\t{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(own[:7], "big"))
        values = parameter.float()
        spread = float(values.std(correction=0)) if values.numel() > 1 else 0.0
        drawn = torch.randn(parameter.shape, generator=generator) * spread + float(values.mean())
        parameter.copy_(drawn)


def scheme(quantisation: Quantisation) -> str:
    """The quantisation in words."""
    if quantisation == "int8":
        return "int8 weights, one scale per output row, symmetric (torch.fake_quantize)"
    return f"int4 weights, one scale per {GROUP_SIZE} inputs, symmetric (torch.fake_quantize)"


@torch.no_grad()
def quantise(model: nn.Module, config: ModelConfig, output: nn.Module | None) -> QuantisationError:
    """Round the weights of all linear layers but ``output``; the model goes on in its own number format.

    Raises:
        UserError: when no layer can be quantised.
    """
    assert config.quantise is not None
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not output]
    if not layers:
        raise UserError(
            f"model {config.id!r} has no linear layers that can be quantised: leave out 'quantise'"
        )
    before = [layer.weight.detach().clone() for layer in layers]
    for layer in layers:
        _round(layer, config.quantise)
    lost = sum(
        float((layer.weight.double() - weight.double()).square().sum())
        for layer, weight in zip(layers, before, strict=True)
    )
    total = sum(float(weight.double().square().sum()) for weight in before)
    return QuantisationError(scheme(config.quantise), lost / total if total else 0.0)


def _round(layer: nn.Linear, quantisation: Quantisation) -> None:
    """Quantise and dequantise one weight: the same numbers on every device, in a plain tensor.

    Symmetric: the scale maps the largest magnitude of a row or group to half of the range of integers, as
    IntxWeightOnlyConfig of torchao does.
    """
    weight = layer.weight.detach()
    low, high = _RANGES[quantisation]
    size = layer.in_features if quantisation == "int8" else GROUP_SIZE
    padded = nn.functional.pad(weight.float(), (0, -layer.in_features % size))
    groups = padded.reshape(-1, size)
    scales = groups.abs().amax(dim=1).div((high - low) / 2).clamp_min(torch.finfo(torch.float32).tiny)
    zeros = torch.zeros(len(groups), dtype=torch.int32, device=weight.device)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(groups, scales, zeros, 0, low, high)
    cut = rounded.reshape(padded.shape)[:, : layer.in_features]
    layer.weight = nn.Parameter(cut.to(weight.dtype).contiguous(), requires_grad=False)
