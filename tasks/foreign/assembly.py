"""Converts the neutral record of a foreign dictionary to one of ours, its conventions folded into weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.foreign.folding import (
    fold_centre,
    fold_decoder_norms,
    fold_input_scale,
    unfold_signs,
)
from tasks.foreign.reading import before_gain, first_reading
from tasks.foreign.record import PER_TOKEN, Foreign
from tasks.foreign.sample import Hookpoints
from tasks.foreign.source import ForeignSource

_AUTOENCODERS = {
    "relu": "relu_l1",
    "topk": "topk",
    "group_max": "topk",
    "batch_topk": "batch_topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "matching_pursuit": "matching_pursuit",
}
_TRANSCODERS = {"relu": "transcoder", "topk": "topk_transcoder", "jumprelu": "jumprelu_transcoder"}
_OF_ATTENTION = ("n_heads", "n_layers", "bottleneck_factor")
_TRANSCODERS |= {"group_max": "topk_transcoder"}


@torch.no_grad()
def assemble(foreign: Foreign) -> Dictionary:
    """One of our dictionaries with the same codes and reconstructions, in evaluation mode.

    Raises:
        UserError: for a combination of conventions that ours cannot express.
    """
    folded = _folded(foreign)
    config = dictionary_config(_config_fields(folded))
    dictionary = build_dictionary(config, folded.widths)
    state = dictionary.state_dict()
    wanted = _tensors(folded)
    for name, tensor in wanted.items():
        if name in state and state[name].shape != tensor.shape:
            wanted[name] = tensor.expand(state[name].shape)
    missing = sorted(set(state) ^ set(wanted))
    if missing:
        raise UserError(
            f"{foreign.source}: a {foreign.activation} {foreign.kind} cannot be read as "
            f"{config.architecture}: {missing[0]} is only on one side"
        )
    dictionary.load_state_dict(wanted)
    return dictionary.eval().requires_grad_(False)


def assemble_gated(
    source: ForeignSource, hookpoints: Hookpoints, verdict: Mapping[str, Any]
) -> tuple[Foreign, Dictionary]:
    """The dictionary of a file as the import gate read it, and the record it was made from.

    Args:
        source: The file and how it is read.
        hookpoints: Where it belongs.
        verdict: What `tasks.foreign.examination.Examination.run` gave.

    Raises:
        UserError: when the file changed, or for a combination of conventions that ours cannot express.
    """
    foreign = first_reading(source.read().with_(**hookpoints._asdict()), source.reading)
    if source.reading.normalisation == "before_gain":
        foreign = before_gain(foreign, *map(torch.tensor, verdict["norm"]))
    read_with = {name: verdict[name] for name in ("scale", "token_norm")}
    placed = foreign.with_(site_scales=tuple(verdict["site_scales"]), **read_with)
    return foreign, assemble(placed)


def _folded(foreign: Foreign) -> Foreign:
    """The same dictionary in our conventions: centred, without factor, thresholds never negative."""
    foreign = fold_input_scale(fold_decoder_norms(foreign))
    if foreign.lacks_threshold:
        foreign = foreign.with_(threshold=torch.zeros(()))
    if foreign.threshold is not None:
        foreign = foreign.with_(threshold=foreign.threshold.clamp_min(0))
    return unfold_signs(fold_centre(foreign))


def _config_fields(foreign: Foreign) -> dict[str, Any]:
    """Configuration of the class with the same encoder; fields that only training needs hold placeholders."""
    fields: dict[str, Any] = {"d_sae": foreign.d_sae, "n_tokens": _training_tokens(foreign)}
    fields |= {"normalisation": "none", "token_norm": foreign.token_norm}
    architecture = _architecture(foreign)
    fields["architecture"] = architecture
    if foreign.activation in PER_TOKEN:
        fields["k"] = foreign.k
    elif foreign.activation == "batch_topk":
        fields["k"] = foreign.k or 1
    elif foreign.activation == "jumprelu":
        fields["target_l0"] = float(foreign.k or 1)
    elif foreign.activation in ("relu", "gated") and foreign.attention is None:
        fields["l1_coefficient"] = _coefficient(foreign)
    if foreign.activation == "group_max":
        fields["one_per_group"] = True
    if foreign.activation == "matching_pursuit":
        fields["stop_on_repeat"] = foreign.stop_on_repeat
    if foreign.W_skip is not None:
        fields["skip"] = True
    if foreign.kind != "autoencoder":
        fields |= _hookpoints(foreign)
    if foreign.attention is not None:
        fields |= {name: getattr(foreign.attention, name) for name in _OF_ATTENTION}
        fields["centred"] = foreign.centred
    if foreign.groups is not None:
        fields["group_shares"] = [size / foreign.d_sae for size in foreign.groups]
    return fields


def _hookpoints(foreign: Foreign) -> dict[str, Any]:
    n_writes = 1 if foreign.kind == "transcoder" else 0
    n_reads = len(foreign.reads) * max(len(foreign.models), 1)
    if n_reads != foreign.n_hookpoints or len(foreign.writes) < n_writes:
        raise UserError(
            f"{foreign.source}: a {foreign.kind} with {foreign.n_hookpoints} inputs needs to know its "
            "hookpoints: pass --hookpoint READ,WRITTEN, or for a crosscoder READ+READ or two models, "
            "--model FIRST+SECOND"
        )
    named = {"writes": foreign.writes} if n_writes else {}
    return {"reads": foreign.reads, **named, **({"models": foreign.models} if foreign.models else {})}


def _architecture(foreign: Foreign) -> str:
    if foreign.kind == "transcoder":
        if foreign.activation not in _TRANSCODERS:
            raise UserError(f"{foreign.source}: a {foreign.activation} transcoder is not known to featlas")
        return _TRANSCODERS[foreign.activation]
    if foreign.kind == "crosscoder":
        return "batch_topk_crosscoder" if foreign.activation == "batch_topk" else "crosscoder"
    if foreign.attention is not None:
        if foreign.activation not in ("relu", "topk"):
            raise UserError(
                f"{foreign.source}: a temporal {foreign.activation} dictionary is not known to featlas"
            )
        return "temporal"
    if foreign.groups is not None:
        return "matryoshka_batch_topk"
    return _AUTOENCODERS[foreign.activation]


def _tensors(foreign: Foreign) -> dict[str, Tensor]:
    named = {
        "W_enc": foreign.W_enc,
        "b_enc": foreign.b_enc,
        "W_dec": foreign.W_dec,
        "b_dec": foreign.b_dec,
        "threshold": foreign.threshold,
        "r_mag": foreign.r_mag,
        "b_mag": foreign.b_mag,
        "W_skip": foreign.W_skip,
    }
    if foreign.attention is not None:
        named |= {**foreign.attention.tensors, "epsilon": torch.tensor(foreign.attention.epsilon)}
    if foreign.activation == "matching_pursuit":
        named["residual_threshold"] = torch.tensor(foreign.residual_threshold)
    if foreign.kind == "crosscoder":
        named["site_scales"] = torch.tensor(foreign.site_scales)
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _training_tokens(foreign: Foreign) -> int:
    for name in ("training_tokens", "n_tokens"):
        value = foreign.described.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 1


def _coefficient(foreign: Foreign) -> float:
    value = foreign.described.get("l1_coefficient")
    return float(value) if isinstance(value, int | float) and value > 0 else 1.0
