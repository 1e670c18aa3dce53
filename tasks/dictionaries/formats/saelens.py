"""SAELens folders: ``cfg.json`` with ``sae_weights.safetensors``, versions before 6 and since.

Conventions of decoderesearch/SAELens 6.54. Before 6.0 the configuration is flat and has other names. A
folder of a training (BatchTopK, Matryoshka) holds ``topk_threshold`` in place of a threshold per latent.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.translation import transformer_lens_name
from tasks.dictionaries.formats.foreign import Activation, Foreign, Kind
from tasks.dictionaries.formats.format import FORMATS, Format, Written
from tasks.dictionaries.formats.hook_names import from_transformer_lens, known
from tasks.dictionaries.formats.tensor_files import Stored, read_json, read_stored
from tasks.dictionaries.saelens_layout import has_saelens_architecture, saelens_config, saelens_tensors
from tasks.dictionaries.token_norm import TokenNorm

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
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
_TOKEN_NORMS: dict[str, TokenNorm] = {"layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}


@FORMATS.register("saelens")
class SaeLens(Format):
    """Reads and writes the folder of one dictionary."""

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The dictionary of a folder (or of its weights file)."""
        folder = path if path.is_dir() else path.parent
        config = _current(read_json(folder / CONFIG_FILE))
        architecture = str(config.get("architecture", "standard"))
        if architecture not in _ACTIVATIONS:
            raise UserError(
                f"{folder / CONFIG_FILE}: featlas cannot read the architecture {architecture!r}; it reads "
                f"{', '.join(_ACTIVATIONS)}"
            )
        stored = read_stored(folder / WEIGHTS_FILE, allow_pickle=allow_pickle)
        return _foreign(folder, config, architecture, stored)

    def write(self, written: Written, folder: Path) -> None:
        """Write a folder that SAELens 6 loads."""
        architecture = written.dictionary.config.architecture
        if not has_saelens_architecture(written.dictionary):
            raise UserError(f"SAELens has no architecture that encodes as {architecture} does")
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
    if current.get("activation_fn") == "topk" and isinstance(chosen, dict) and "k" in chosen:
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
    metadata = config["metadata"] if isinstance(config.get("metadata"), dict) else {}
    reads = known(from_transformer_lens(metadata.get("hook_name")))
    writes = known(from_transformer_lens(metadata.get("hook_name_out"))) if kind == "transcoder" else reads
    named = metadata.get("model_name")
    return Foreign(
        source=source,
        activation=activation,
        kind=kind,
        W_enc=_encoder(source, tensors, activation),
        W_dec=_decoder(source, tensors),
        b_enc=_gate_bias(source, tensors, activation),
        b_dec=_take(source, tensors, "b_dec"),
        k=_k(config, activation, tensors),
        threshold=_threshold(tensors, activation),
        r_mag=tensors.get("r_mag"),
        b_mag=tensors.get("b_mag"),
        W_skip=tensors["W_skip"].mT.contiguous() if "W_skip" in tensors else None,
        residual_threshold=float(config.get("residual_threshold", 1e-2)),
        stop_on_repeat=bool(config.get("stop_on_duplicate_support", True)),
        centred=kind == "autoencoder" and bool(config.get("apply_b_dec_to_input", True)),
        token_norm=_token_norm(source, config, kind),
        by_decoder_norm=bool(config.get("rescale_acts_by_decoder_norm", False)),
        groups=_groups(config, architecture),
        reads=reads,
        writes=writes,
        model_name=named if isinstance(named, str) else None,
        described=config,
    )


def _take(source: str, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise UserError(f"{source}: {WEIGHTS_FILE} has no {name}; it has {', '.join(sorted(tensors))}")
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


def _k(config: dict[str, Any], activation: Activation, tensors: Mapping[str, Tensor]) -> int | None:
    value = config.get("k")
    if activation == "matching_pursuit":
        value = config.get("max_iterations") or int(tensors["W_dec"].shape[1])
    return int(value) if isinstance(value, int | float) and value >= 1 else None


def _threshold(tensors: Mapping[str, Tensor], activation: Activation) -> Tensor | None:
    if activation not in ("jumprelu", "batch_topk"):
        return None
    if "log_threshold" in tensors:
        return tensors["log_threshold"].exp()
    return tensors.get("threshold", tensors.get("topk_threshold"))


def _token_norm(source: str, config: dict[str, Any], kind: Kind) -> TokenNorm:
    """Of ``expected_average_only_in`` SAELens folds the factor in when it saves: nothing is left to do."""
    norm = config.get("normalize_activations", "none")
    if norm in ("none", "expected_average_only_in"):
        return "none"
    if norm in _TOKEN_NORMS and kind == "autoencoder":
        return _TOKEN_NORMS[norm]
    raise UserError(f"{source}: featlas cannot read normalize_activations {norm!r} of a {kind}")


def _groups(config: dict[str, Any], architecture: str) -> tuple[int, ...] | None:
    widths = config.get("matryoshka_widths")
    if architecture != "matryoshka_batchtopk" or not isinstance(widths, list) or not widths:
        return None
    return tuple(int(wide) - int(narrow) for narrow, wide in zip([0, *widths], widths, strict=False))
