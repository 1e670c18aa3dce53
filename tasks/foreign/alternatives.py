"""Other ways to read a foreign dictionary, one change at a time: what the import gate tries.

Legend: N tokens, D d_in, L d_sae.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from tasks.foreign.assembly import assemble
from tasks.foreign.reading import (
    Inputs,
    Normalisation,
    ReadingConfig,
    first_reading,
    with_norms,
)
from tasks.foreign.record import Foreign

NORMALISATIONS: tuple[Normalisation, ...] = ("none", "dataset_rms", "unit_rms", "layer_norm", "constant_norm")
SPARSITIES = tuple(2**power for power in range(11))
_UNIT = 1e-3
"""A norm that differs from 1 by more is no rounding."""


class Alternative(NamedTuple):
    """A reading, the name of what it changes, and the value it gives it."""

    setting: str
    value: str
    reading: ReadingConfig


def read_as(foreign: Foreign, reading: ReadingConfig, inputs: Inputs) -> Foreign:
    """The dictionary of the file under ``reading``; ``inputs`` are the activations that it reads."""
    return with_norms(first_reading(foreign, reading), reading, inputs)


def alternatives(foreign: Foreign, reading: ReadingConfig, inputs: Inputs) -> Iterator[Alternative]:
    """Every reading that differs from ``reading`` in one setting and could make a difference.

    Args:
        foreign: The record as the file states it.
        reading: The reading to vary.
        inputs: The activations that it reads.
    """
    current = read_as(foreign, reading, inputs)
    yield from _normalisations(current, reading)
    if current.kind == "transcoder" and inputs.gain_D is not None and reading.normalisation != "before_gain":
        yield _changed(reading, "normalisation", "before_gain")
    if current.kind == "autoencoder" and bool((current.b_dec != 0).any()):
        yield _changed(reading, "centre", "none" if current.centred else "b_dec")
    norms_L = current.W_dec.norm(dim=1)
    if bool(((norms_L - 1).abs() > _UNIT).any()) and reading.decoder == "file":
        yield _changed(reading, "decoder", "unit_norm")
    if current.W_dec.shape[0] == current.W_dec.shape[1]:
        yield _changed(reading, "decoder", "file" if reading.decoder == "transposed" else "transposed")
        yield _changed(reading, "encoder", "file" if reading.encoder == "transposed" else "transposed")
    if current.W_skip is not None and current.W_skip.shape[0] == current.W_skip.shape[1]:
        yield _changed(reading, "skip", "file" if reading.skip == "transposed" else "transposed")
    if current.kind != "crosscoder":
        yield from _sparser(current, reading, inputs.sample_ND)


def _normalisations(current: Foreign, reading: ReadingConfig) -> Iterator[Alternative]:
    is_plain = reading.normalisation != "before_gain" and (
        current.scale,
        current.site_scales,
        current.token_norm,
    ) == (1.0, (), "none")
    for name in NORMALISATIONS:
        per_token = name in ("layer_norm", "constant_norm")
        if name in (reading.normalisation, current.token_norm) or (name == "none" and is_plain):
            continue
        if not (per_token and current.kind != "autoencoder"):
            yield _changed(reading, "normalisation", name)


def _sparser(current: Foreign, reading: ReadingConfig, x_ND: Tensor) -> Iterator[Alternative]:
    """Fewer latents per token, if nothing but zero keeps them out: a lost threshold, a TopK as ReLU."""
    has_threshold = current.threshold is not None and bool((current.threshold > 0).any())
    if current.activation not in ("relu", "jumprelu", "batch_topk") or has_threshold:
        return
    if current.attention is not None:
        for k in (k for k in SPARSITIES if k < current.d_sae):
            yield _changed(reading, "k", str(k), activation="topk", k=k)
        return
    acts_NL = assemble(current).encode(x_ND)
    l0 = float((acts_NL > 0).sum()) / len(acts_NL)
    sizes = sorted({k for k in (*SPARSITIES, current.k or 1) if k < l0 and k < current.d_sae})
    thresholds = _thresholds(acts_NL, sizes)
    for k, threshold in zip(sizes, thresholds, strict=True):
        yield _changed(reading, "threshold", f"{threshold:.4g}", threshold=threshold)
        if current.activation == "relu":
            yield _changed(reading, "k", str(k), activation="topk", k=k)


def _thresholds(acts_NL: Tensor, sizes: list[int]) -> list[float]:
    """For each mean number of latents the threshold that lets this many pass."""
    values = acts_NL[acts_NL > 0].sort(descending=True).values
    return [round(float(values[min(k * len(acts_NL), len(values) - 1)]), 6) for k in sizes]


def _changed(reading: ReadingConfig, setting: str, value: str, **fields: Any) -> Alternative:
    return Alternative(setting, value, reading.model_copy(update=fields or {setting: value}))


def is_sparsity(alternative: Alternative) -> bool:
    """Whether it changes only the number of latents per token."""
    return alternative.setting in ("k", "threshold")


def settings(reading: ReadingConfig) -> dict[str, Any]:
    """The differences from reading the file as it states."""
    default = ReadingConfig()
    return {
        name: getattr(reading, name)
        for name in ReadingConfig.model_fields
        if getattr(reading, name) != getattr(default, name)
    }
