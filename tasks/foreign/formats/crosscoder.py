"""Crosscoders over several layers or two models: the dictionary_learning fork and ckkissane's replication.

The fork (science-of-finetuning/dictionary_learning) has ``encoder.weight`` (n, D, L), ``encoder.bias`` (L,),
``decoder.weight`` (n, L, D) and ``decoder.bias`` (n, D); where it is BatchTopK, a ``threshold`` on the
activations times the summed norms of their directions, other ``code_normalization`` is refused. It may carry
mean and deviation of the activations, NaN where it does not normalise: older files divide by the deviation,
newer ones multiply all hookpoints by ``activation_global_scale``.

ckkissane/crosscoder-model-diff-replication has ``W_enc`` (n, D, L), ``W_dec`` (L, n, D), ``b_enc`` and
``b_dec`` (n, D). In its training the activations of each model had a mean norm of sqrt(D), which the file
does not say: it is read with ``normalisation=dataset_rms``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import from_transformer_lens, known
from tasks.foreign.config_keys import Keys, check_keys, report_tensors
from tasks.foreign.format import FORMATS, Format
from tasks.foreign.record import Foreign
from tasks.foreign.tensor_files import read_json, read_stored

_EPSILON = 1e-8
_CODE_NORMALISATIONS = ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")
"""What activations are multiplied by to be compared, in the order of the fork's ids, from 1."""


_TENSORS: tuple[str, ...] = (
    "W_enc",
    "W_dec",
    "b_enc",
    "b_dec",
    "encoder.weight",
    "encoder.bias",
    "decoder.weight",
)
_TENSORS += ("decoder.bias", "k", "threshold", "code_normalization_id", "activation_mean", "activation_std")
_TENSORS += ("activation_global_scale", "code_normalization")

_HARMLESS = """
    activation_dim auxk_alpha batch_size beta1 beta2 buffer_mult code_normalization_alpha_cc
    code_normalization_alpha_sae d_in dec_init_norm decay_start device dict_class dict_size enc_dtype
    init_with_transpose k l1_coeff l1_penalty layer lm_name log_every lr model_batch_size model_name
    norm_init_scale num_layers num_tokens recon_normalize_by_sqrt_d resample_steps
    same_init_for_all_layers save_every seed seq_len site steps submodule_name target_rms threshold_beta
    threshold_start_step top_k_aux trainer_class use_mse_loss wandb_entity wandb_name wandb_project
    warmup_steps
"""
_KEYS = Keys(
    read=frozenset(("buffer", "code_normalization", "dict_class_kwargs", "hook_point", "trainer")),
    harmless=frozenset(_HARMLESS.split()),
)
"""What both tools write; sizes, k and thresholds are in the tensors."""


@FORMATS.register("crosscoder")
class Crosscoder(Format):
    """Reads the weights of one crosscoder, with the configuration beside them."""

    purpose = "reads crosscoders of the dictionary_learning fork and of ckkissane's replication"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The crosscoder of a file."""
        tensors = read_stored(path, allow_pickle=allow_pickle).tensors
        config = _config(path)
        said = _settings(config)
        check_keys(path, said, _KEYS)
        if "k" in tensors:
            _check_code_normalisation(path, tensors, said)
        try:
            parts = _fork(tensors) if "encoder.weight" in tensors else _replication(tensors)
        except KeyError as error:
            raise UserError(f"{path} has no {error.args[0]}: it is not a crosscoder") from error
        if any(parts[name].ndim != n for name, n in (("W_enc", 3), ("W_dec", 3), ("b_dec", 2))):
            shapes = {name: tuple(parts[name].shape) for name in ("W_enc", "W_dec", "b_dec")}
            raise UserError(f"{path}: a crosscoder has arrays per layer or model, these are {shapes}")
        n_hookpoints, d, d_sae = parts["W_enc"].shape
        if parts["W_dec"].shape != (n_hookpoints, d_sae, d) or parts["b_dec"].shape != (n_hookpoints, d):
            raise UserError(f"{path}: the shapes of its encoder and decoder do not belong together")
        report_tensors(path, tensors, _TENSORS)
        parts, site_scales = _without_statistics(parts, tensors)
        threshold = tensors.get("threshold") if "k" in tensors else None
        hookpoint = known(from_transformer_lens(config.get("hook_point")))
        return Foreign(
            source=str(path),
            activation="relu" if "k" not in tensors else "batch_topk",
            kind="crosscoder",
            W_enc=parts["W_enc"].reshape(n_hookpoints * d, d_sae),
            W_dec=parts["W_dec"].permute(1, 0, 2).reshape(d_sae, n_hookpoints * d),
            b_enc=parts["b_enc"],
            b_dec=parts["b_dec"].reshape(-1),
            k=int(tensors["k"]) if "k" in tensors else None,
            threshold=threshold if threshold is not None and bool((threshold >= 0).all()) else None,
            centred=False,
            n_hookpoints=n_hookpoints,
            site_scales=site_scales,
            reads=hookpoint,
            writes=hookpoint,
            described=config,
        )


def _config(path: Path) -> dict[str, Any]:
    for name in (f"{path.stem}_cfg.json", "cfg.json", "config.json"):
        if path.with_name(name).is_file():
            return read_json(path.with_name(name))
    return {}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a configuration, those of its sections for trainer and class too."""
    said = dict(config)
    for section in ("trainer", "dict_class_kwargs"):
        inner = said.get(section)
        said |= inner if isinstance(inner, dict) else {}
    return said


def _check_code_normalisation(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
    """Refuse a BatchTopK crosscoder whose threshold is not one on activations times summed norms."""
    name = str(said.get("code_normalization") or _CODE_NORMALISATIONS[0]).rpartition(".")[2]
    if "code_normalization_id" in tensors:
        name = _CODE_NORMALISATIONS[int(tensors["code_normalization_id"]) - 1]
    if name.upper() != _CODE_NORMALISATIONS[0]:
        raise UserError(
            f"{path}: its threshold is stated for activations normalised as {name}; featlas reads thresholds "
            f"of activations times the summed norms of their directions ({_CODE_NORMALISATIONS[0]})"
        )


def _fork(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        "W_enc": tensors["encoder.weight"],
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["decoder.weight"],
        "b_dec": tensors["decoder.bias"],
    }


def _replication(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    W_dec = tensors["W_dec"]
    return {
        "W_enc": tensors["W_enc"],
        "b_enc": tensors["b_enc"],
        "W_dec": W_dec.permute(1, 0, 2) if W_dec.ndim == 3 else W_dec,
        "b_dec": tensors["b_dec"],
    }


def _without_statistics(
    parts: dict[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """Inputs ``(x - mean) / std`` and outputs ``y std + mean``, folded into weights and biases.

    The root mean square of a hookpoint's deviations is not folded but returned as the factor of its inputs:
    in those units the norms of its directions compare with those of the others, as in the training. Where
    one factor serves all, ``(x - mean) factor``, it is that.
    """
    mean, std = tensors.get("activation_mean"), tensors.get("activation_std")
    if mean is None or std is None or bool(mean.isnan().any()) or bool(std.isnan().any()):
        return parts, ()
    if mean.shape != parts["b_dec"].shape or std.shape != mean.shape:
        raise UserError(
            f"activation_mean has the shape {tuple(mean.shape)}, not {tuple(parts['b_dec'].shape)}"
        )
    if "activation_global_scale" in tensors:
        return _without_mean(parts, mean, float(tensors["activation_global_scale"]))
    if "k" in tensors:
        raise UserError(
            "featlas cannot read a BatchTopK crosscoder of normalised activations: its threshold is stated "
            "for norms that change when the normalisation is folded in"
        )
    std_nD = std + _EPSILON
    rms_n1 = std_nD.square().mean(dim=1, keepdim=True).sqrt()
    shape_nD = std_nD / rms_n1
    folded = {
        "W_enc": parts["W_enc"] / shape_nD.unsqueeze(2),
        "b_enc": parts["b_enc"] - torch.einsum("nd,ndf->f", mean / std_nD, parts["W_enc"]),
        "W_dec": parts["W_dec"] * shape_nD.unsqueeze(1),
        "b_dec": (parts["b_dec"] * std_nD + mean) / rms_n1,
    }
    return folded, tuple((1 / rms_n1[:, 0]).tolist())


def _without_mean(
    parts: dict[str, Tensor], mean_nD: Tensor, factor: float
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """Inputs ``(x - mean) factor``: the mean is folded into the biases, the factor is returned."""
    shift_nD = mean_nD * factor
    changes = {
        "b_enc": parts["b_enc"] - torch.einsum("nd,ndf->f", shift_nD, parts["W_enc"]),
        "b_dec": parts["b_dec"] + shift_nD,
    }
    return {**parts, **changes}, (factor,) * len(mean_nD)
