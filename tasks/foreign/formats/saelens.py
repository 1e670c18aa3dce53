"""SAELens folders: ``cfg.json`` with ``sae_weights.safetensors``, versions before 6 and since.

Conventions of decoderesearch/SAELens 6.54. Before 6.0 the configuration is flat and has other names. A
folder of a training (BatchTopK, Matryoshka) holds ``topk_threshold`` in place of a threshold per latent.
A checkpoint of an unfinished training has the normalisation of its inputs in files of its own beside it; of
a finished one it is folded in.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import from_module_side, from_transformer_lens, known, transformer_lens_name
from tasks.dictionaries.saelens_layout import saelens_config, saelens_tensors
from tasks.dictionaries.token_norm import TokenNorm
from tasks.foreign import saelens_temporal
from tasks.foreign.config_keys import check_keys, flag, report_tensors, whole
from tasks.foreign.folding import Whitening, fold_whitening
from tasks.foreign.format import FORMATS, Format, Written
from tasks.foreign.record import Activation, Foreign, Kind
from tasks.foreign.saelens_keys import SAELENS_KEYS
from tasks.foreign.tensor_files import Stored, read_json, read_stored

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
SCALER_FILE, WHITENING_FILE = "activation_scaler.json", "activation_whitening.safetensors"
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
    "abstopk": "abs_topk",
    "jumprelu": "jumprelu",
    "batchtopk": "batch_topk",
    "matryoshka_batchtopk": "batch_topk",
    "matching_pursuit": "matching_pursuit",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_OLD_NAMES = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
_TENSORS: tuple[str, ...] = (
    "W_enc",
    "W_dec",
    "b_enc",
    "b_dec",
    "b_gate",
    "b_mag",
    "r_mag",
    "threshold",
    "log_threshold",
)
_TENSORS += ("topk_threshold", "scaling_factor", "W_skip")
_WHITENED = "covariance_whitening"
_TOKEN_NORMS: dict[str, TokenNorm] = {"layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}


@FORMATS.register("saelens")
class SaeLens(Format):
    """Reads and writes the folder of one dictionary."""

    purpose = "reads folders of SAELens 6 and before, writes those of 6"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The dictionary of a folder (or of its weights file)."""
        folder = path if path.is_dir() else path.parent
        if (folder / saelens_temporal.PUBLISHED_CONFIG).is_file():
            return _temporal(folder, *saelens_temporal.published(folder))
        config = _current(read_json(folder / CONFIG_FILE))
        architecture = str(config.get("architecture", "standard"))
        if architecture not in (*_ACTIVATIONS, saelens_temporal.ARCHITECTURE):
            raise UserError(
                f"{folder / CONFIG_FILE}: featlas cannot read the architecture {architecture!r}; it reads "
                f"{', '.join((*_ACTIVATIONS, saelens_temporal.ARCHITECTURE))}"
            )
        check_keys(folder / CONFIG_FILE, config, SAELENS_KEYS)
        stored = read_stored(folder / WEIGHTS_FILE, allow_pickle=allow_pickle)
        if architecture == saelens_temporal.ARCHITECTURE:
            return _temporal(folder, config, stored)
        return _with_normalisation(folder, _foreign(folder, config, architecture, stored))

    def write(self, written: Written, folder: Path) -> None:
        """Write a folder that SAELens 6 loads."""
        if written.dictionary.saelens() is None:
            raise UserError(
                f"SAELens has no architecture that encodes as {written.dictionary.config.encodes_as} does"
            )
        folder.mkdir(parents=True, exist_ok=True)
        metadata: dict[str, Any] = {**written.described, "model_name": written.model_name}
        metadata["hook_name"] = transformer_lens_name(written.reads[0])
        if written.writes != written.reads:
            metadata["hook_name_out"] = transformer_lens_name(written.writes[0])
        config = saelens_config(written.dictionary, metadata)
        save_file(saelens_tensors(written.dictionary), folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True))


def _current(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration in the form of version 6: what lies flat is renamed and given its default."""
    if isinstance(config.get("metadata"), dict) and "sae_lens_version" in config["metadata"]:
        return config
    current = {_OLD_NAMES.get(name, name): value for name, value in config.items()}
    chosen = current.get("activation_fn_kwargs") or {}
    if not isinstance(chosen, dict) or not set(chosen) <= {"k"}:
        raise UserError(f"{CONFIG_FILE}: featlas cannot read activation_fn_kwargs {chosen}; it reads only k")
    if current.get("activation_fn") == "topk" and "k" in chosen:
        current |= {"architecture": "topk", "k": chosen["k"]}
    norm = current.get("normalize_activations")
    if isinstance(norm, bool) or norm is None:
        current["normalize_activations"] = "expected_average_only_in" if norm else "none"
    inner = config.get("metadata")
    current["metadata"] = {**current, **(inner if isinstance(inner, dict) else {})}
    return current


def _foreign(folder: Path, config: dict[str, Any], architecture: str, stored: Stored) -> Foreign:
    tensors = stored.tensors
    kind: Kind = "transcoder" if "transcoder" in architecture else "autoencoder"
    activation, source = _ACTIVATIONS[architecture], str(folder)
    if "topk_threshold" in tensors:
        activation = "batch_topk"
    where = folder / CONFIG_FILE
    W_dec = _decoder(source, tensors)
    report_tensors(folder / WEIGHTS_FILE, tensors, _TENSORS)
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    reads = _hookpoint(metadata, "")
    writes = _hookpoint(metadata, "_out") if kind == "transcoder" else reads
    named = metadata.get("model_name")
    return Foreign(
        source=source,
        activation=activation,
        kind=kind,
        W_enc=_encoder(source, tensors, activation),
        W_dec=W_dec,
        b_enc=_gate_bias(source, tensors, activation),
        b_dec=_take(source, tensors, "b_dec"),
        k=_k(where, config, activation, tensors),
        threshold=_threshold(tensors, activation),
        r_mag=tensors.get("r_mag"),
        b_mag=tensors.get("b_mag"),
        W_skip=tensors["W_skip"].mT.contiguous() if "W_skip" in tensors else None,
        residual_threshold=float(config.get("residual_threshold", 1e-2)),
        stop_on_repeat=flag(where, config, "stop_on_duplicate_support", default=True),
        centred=kind == "autoencoder" and flag(where, config, "apply_b_dec_to_input", default=True),
        token_norm=_token_norm(source, config, kind),
        by_decoder_norm=flag(where, config, "rescale_acts_by_decoder_norm", default=False),
        groups=_groups(config, architecture),
        reads=reads,
        writes=writes,
        model_name=named if isinstance(named, str) else None,
        described=config,
    )


def _temporal(folder: Path, config: dict[str, Any], stored: Stored) -> Foreign:
    plain, without = saelens_temporal.plain_folder(str(folder), config, stored)
    foreign = _foreign(folder, plain, plain["architecture"], without)
    return saelens_temporal.with_attention(foreign, config, stored.tensors)


def _hookpoint(metadata: Mapping[str, Any], side: str) -> tuple[str, ...]:
    """What the name of the module of Transformers says, where there is one; it is the more exact of both."""
    exact = from_module_side(metadata.get(f"hf_hook_name{side}"))
    return known(exact or from_transformer_lens(metadata.get(f"hook_name{side}")))


def _with_normalisation(folder: Path, foreign: Foreign) -> Foreign:
    """The factor or the whitening that a checkpoint's inputs had and that its weights do not have yet."""
    scaler = read_json(folder / SCALER_FILE) if (folder / SCALER_FILE).is_file() else {}
    factor, whitening = scaler.get("scaling_factor"), folder / WHITENING_FILE
    if isinstance(factor, int | float) and factor > 0:
        foreign = foreign.with_(scale=float(factor))
    if scaler.get("has_whitening", bool(scaler)) and whitening.is_file():
        tensors = read_stored(whitening).tensors
        parts = [_take(str(folder), tensors, name) for name in ("mean", "matrix", "inverse_matrix")]
        return fold_whitening(foreign, Whitening(*parts))
    if foreign.described.get("normalize_activations") == _WHITENED:
        raise UserError(
            f"{folder}: its inputs were whitened in training, and {WHITENING_FILE}, which says how, is not "
            f"there: fetch it and {SCALER_FILE}, or the folder that SAELens writes at the end of a training"
        )
    return foreign


def _take(source: str, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise UserError(f"{source} has no {name}; it has {', '.join(sorted(tensors))}")
    return tensors[name]


def _encoder(source: str, tensors: Mapping[str, Tensor], activation: Activation) -> Tensor:
    if activation == "matching_pursuit":
        return _take(source, tensors, "W_dec").T.contiguous()
    return _take(source, tensors, "W_enc")


def _decoder(source: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Directions, times the factor per latent that some folders before 6.0 carry."""
    W_dec, factor = _take(source, tensors, "W_dec"), tensors.get("scaling_factor")
    if factor is None:
        return W_dec
    if factor.numel() not in (1, len(W_dec)):
        raise UserError(f"{source}: scaling_factor has the shape {tuple(factor.shape)}, not ({len(W_dec)},)")
    return W_dec * factor.reshape(-1, 1)


def _gate_bias(source: str, tensors: Mapping[str, Tensor], activation: Activation) -> Tensor:
    if activation == "matching_pursuit":
        return torch.zeros(len(_take(source, tensors, "W_dec")))
    return _take(source, tensors, "b_gate" if activation == "gated" else "b_enc")


def _k(
    where: Path, config: dict[str, Any], activation: Activation, tensors: Mapping[str, Tensor]
) -> int | None:
    value = whole(where, config, "k")
    if activation == "matching_pursuit":
        value = whole(where, config, "max_iterations") or int(tensors["W_dec"].shape[1])
    return value if value is not None and value >= 1 else None


def _threshold(tensors: Mapping[str, Tensor], activation: Activation) -> Tensor | None:
    if activation not in ("jumprelu", "batch_topk"):
        return None
    if "log_threshold" in tensors:
        return tensors["log_threshold"].exp()
    return tensors.get("threshold", tensors.get("topk_threshold"))


def _token_norm(source: str, config: dict[str, Any], kind: Kind) -> TokenNorm:
    """What was done to each token by itself; what was done to all alike is in files beside it, if at all."""
    norm = config.get("normalize_activations", "none")
    if norm in ("none", "expected_average_only_in", _WHITENED):
        return "none"
    if norm in _TOKEN_NORMS and kind == "autoencoder":
        return _TOKEN_NORMS[norm]
    raise UserError(f"{source}: featlas cannot read normalize_activations {norm!r} of a {kind}")


def _groups(config: dict[str, Any], architecture: str) -> tuple[int, ...] | None:
    widths = config.get("matryoshka_widths")
    if architecture != "matryoshka_batchtopk" or not isinstance(widths, list) or not widths:
        return None
    return tuple(int(wide) - int(narrow) for narrow, wide in zip([0, *widths], widths, strict=False))
