"""From the neutral record of a foreign dictionary to one of ours, its conventions folded into weights.

Legend: D d_in, E d_out, L d_sae. Activations stay those of the foreign tool, number for number:

- inputs that had the factor s in training: ``W_enc s``, ``W_dec / s``, ``b_dec / s``
- no b_dec taken from the input: ``b_enc + b_dec W_enc`` (and the same times exp(r_mag) for magnitudes)
- activations times the norm n of their direction: ``W_enc n``, ``b_enc n``, ``W_dec / n``
"""

from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.formats.foreign import Foreign

_SMALLEST_NORM = 1e-12
_AUTOENCODERS = {
    "relu": "relu_l1",
    "topk": "topk",
    "batch_topk": "batch_topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "matching_pursuit": "matching_pursuit",
}
_TRANSCODERS = {"relu": "transcoder", "topk": "topk_transcoder", "jumprelu": "jumprelu_transcoder"}


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
            f"{config.architecture}: {missing[0]} is on one side alone"
        )
    dictionary.load_state_dict(wanted)
    return dictionary.eval().requires_grad_(False)


def _folded(foreign: Foreign) -> Foreign:
    """The same dictionary in our conventions: centred, without factor, thresholds never negative."""
    if foreign.by_decoder_norm:
        norm_L = foreign.W_dec.norm(dim=1).clamp_min(_SMALLEST_NORM)
        foreign = foreign.with_(
            W_enc=foreign.W_enc * norm_L,
            b_enc=foreign.b_enc * norm_L,
            W_dec=foreign.W_dec / norm_L.unsqueeze(1),
            by_decoder_norm=False,
        )
    if foreign.scale != 1.0:
        foreign = foreign.with_(
            W_enc=foreign.W_enc * foreign.scale,
            W_dec=foreign.W_dec / foreign.scale,
            b_dec=foreign.b_dec / foreign.scale,
            residual_threshold=foreign.residual_threshold / foreign.scale,
            scale=1.0,
        )
    if foreign.lacks_threshold:
        foreign = foreign.with_(threshold=torch.zeros(()))
    if foreign.threshold is not None:
        foreign = foreign.with_(threshold=foreign.threshold.clamp_min(0))
    if foreign.kind == "autoencoder" and not foreign.centred:
        foreign = _centred(foreign)
    return foreign


def _centred(foreign: Foreign) -> Foreign:
    if foreign.activation == "matching_pursuit":
        return foreign.with_(b_dec=torch.zeros_like(foreign.b_dec), centred=True)
    shift_L = (foreign.b_dec.double() @ foreign.W_enc.double()).float()
    changes: dict[str, Tensor] = {"b_enc": foreign.b_enc + shift_L}
    if foreign.b_mag is not None and foreign.r_mag is not None:
        changes["b_mag"] = foreign.b_mag + shift_L * foreign.r_mag.exp()
    return foreign.with_(centred=True, **changes)


def _config_fields(foreign: Foreign) -> dict[str, Any]:
    """Configuration of the class that encodes alike; what only training needs stands at a placeholder."""
    fields: dict[str, Any] = {"d_sae": foreign.d_sae, "n_tokens": _training_tokens(foreign)}
    fields |= {"normalisation": "none", "token_norm": foreign.token_norm}
    architecture = _architecture(foreign)
    fields["architecture"] = architecture
    if foreign.activation in ("topk", "matching_pursuit"):
        fields["k"] = foreign.k
    elif foreign.activation == "batch_topk":
        fields["k"] = foreign.k or 1
    elif foreign.activation == "jumprelu":
        fields["target_l0"] = float(foreign.k or 1)
    elif foreign.activation in ("relu", "gated"):
        fields["l1_coefficient"] = _coefficient(foreign)
    if foreign.activation == "matching_pursuit":
        fields["stop_on_repeat"] = foreign.stop_on_repeat
    if foreign.W_skip is not None:
        fields["skip"] = True
    if foreign.kind != "autoencoder":
        fields |= _hookpoints(foreign)
    if foreign.groups is not None:
        fields["group_shares"] = [size / foreign.d_sae for size in foreign.groups]
    return fields


def _hookpoints(foreign: Foreign) -> dict[str, Any]:
    n_writes = 1 if foreign.kind == "transcoder" else 0
    if len(foreign.reads) != foreign.n_sites or len(foreign.writes) < n_writes:
        raise UserError(
            f"{foreign.source}: a {foreign.kind} with {foreign.n_sites} inputs needs to know its hookpoints: "
            "pass --hookpoint READ,WRITTEN, or READ+READ for a crosscoder"
        )
    return {"reads": foreign.reads, **({"writes": foreign.writes} if n_writes else {})}


def _architecture(foreign: Foreign) -> str:
    if foreign.kind == "transcoder":
        if foreign.activation not in _TRANSCODERS:
            raise UserError(f"{foreign.source}: a {foreign.activation} transcoder is not known to featlas")
        return _TRANSCODERS[foreign.activation]
    if foreign.kind == "crosscoder":
        return "batch_topk_crosscoder" if foreign.activation == "batch_topk" else "crosscoder"
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
    if foreign.activation == "matching_pursuit":
        named["residual_threshold"] = torch.tensor(foreign.residual_threshold)
    if foreign.kind == "crosscoder":
        named["site_scales"] = torch.ones(foreign.n_sites)
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
