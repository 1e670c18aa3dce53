"""Checks that the files of a model agree with each other and with the stages; loads no weights.

It reads ``config.json``, the headers of the weights and the tokenizer's vocabulary, in milliseconds. A
problem that would stop a stage in the middle of a run is reported before anything runs.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from safetensors import SafetensorError, safe_open

from catalog.errors import UserError
from tasks.activations.hookpoint import Hookpoint
from tasks.activations.models.hookpoints import LAYOUTS, Layout, layout_of
from tasks.activations.models.multimodal import NESTED, language_config, language_tensors

_NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "d_model": ("hidden_size", "n_embd", "dim", "d_model"),
    "vocab_size": ("vocab_size",),
    "max_context": ("max_position_embeddings", "n_positions"),
    "n_heads": ("num_attention_heads", "n_head", "n_heads"),
}
"""The names of sizes in the model types."""
_LARGEST = {"n_layers": 10_000, "d_model": 10**6, "vocab_size": 10**8, "max_context": 10**9, "n_heads": 10**5}
_NESTED = (NESTED, "llm_config", "language_config")
_QUANTISED = ("quantization_config", "compression_config")
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")
_HEADS = ("lm_head.", "embed_out.", "cls.", "vocab_")
_MIXED = "ForConditionalGeneration"
"""How classes of models are called that read several kinds of input and write text."""
_NOT_NUMBERS = ("F8_", "F4", "F6_", "E8M0")


@dataclass(frozen=True)
class ModelFiles:
    """The content of a model's files."""

    folder: Path
    model_type: str
    sizes: Mapping[str, int]
    """n_layers, d_model, vocab_size, max_context, n_heads, as far as ``config.json`` gives them."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the stored tensors, by name."""

    layout: Layout | None
    """How its blocks are built; None for a model type that is not in the table."""

    lacks_head: bool
    """Whether a causal model is stored without the matrix that produces its logits."""


def read_model_files(folder: Path, config: Mapping[str, Any], weights: Sequence[Path]) -> ModelFiles:
    """The files of a model, after a check that they agree.

    Args:
        folder: Their folder, for messages.
        config: Content of ``config.json``.
        weights: Its safetensors files.

    Raises:
        UserError: for a kind of model that no stage can run, invalid sizes, and weights whose sizes differ
            from the configuration.
    """
    _refuse_other_kinds(folder, config)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weights:
        shapes |= tensor_shapes(path)
    if NESTED in config:
        shapes = language_tensors(shapes)
        if not shapes:
            _refuse_mixed(folder / "config.json", config, NESTED)
        config = language_config(config)
    named = {"use_parallel_residual": True, **config}
    layout = layout_of(SimpleNamespace(**named))
    files = ModelFiles(
        folder, str(config["model_type"]), _sizes(folder, config), shapes, layout, _lacks_head(config, shapes)
    )
    _check_weights(files)
    return files


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file, from its header.

    Raises:
        UserError: when it is damaged or holds numbers of a quantised model.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                part = file.get_slice(name)
                if str(part.get_dtype()).startswith(_NOT_NUMBERS):
                    raise UserError(
                        f"{path}: {name} is stored as {part.get_dtype()}, a quantised number format: use the "
                        "checkpoint in float32, bfloat16 or float16"
                    )
                shapes[name] = tuple(part.get_shape())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): fetch the model again") from error
    return shapes


def check_hookpoints(files: ModelFiles, hookpoints: Sequence[str], context_length: int) -> None:
    """Refuse hookpoints that the model cannot have and a context that is too long for it.

    Raises:
        UserError: naming the hookpoint or the length.
    """
    n_layers, longest = files.sizes.get("n_layers"), files.sizes.get("max_context")
    for hookpoint in hookpoints:
        wanted = Hookpoint.parse(hookpoint)
        if wanted.layer is None:
            continue
        if files.layout is None:
            raise UserError(
                f"hookpoint {hookpoint!r}: model type {files.model_type!r} is not in the table (known: "
                f"{', '.join(sorted(LAYOUTS))}): name the module itself, module:PATH"
            )
        if wanted.name not in files.layout.hookpoints:
            known = ", ".join(files.layout.hookpoints)
            raise UserError(
                f"hookpoint {hookpoint!r}: a {files.model_type} block has no {wanted.name!r}; it has {known}"
            )
        if n_layers is not None and wanted.layer >= n_layers:
            raise UserError(f"hookpoint {hookpoint!r}: {files.folder} has blocks 0 to {n_layers - 1}")
    if longest is not None and context_length > longest:
        raise UserError(
            f"a context of {context_length} tokens is longer than {files.folder} can read ({longest}): "
            "lower activations.context_length"
        )


def _refuse_other_kinds(folder: Path, config: Mapping[str, Any]) -> None:
    where = folder / "config.json"
    if not isinstance(config.get("model_type"), str):
        raise UserError(
            f"{where} has no model_type, so it is unknown how the model is built: fetch the model again"
        )
    nested = next((name for name in _NESTED if name in config), None)
    if nested is not None and not isinstance(language_config(config).get("model_type"), str):
        _refuse_mixed(where, config, nested)
    if nested is not None and nested != NESTED:
        _refuse_mixed(where, config, nested)
    quantised = next((config[name] for name in _QUANTISED if config.get(name)), None)
    if quantised is not None:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else "unknown"
        raise UserError(
            f"{where} is of a quantised model ({method}): activations are taken from weights in float32, "
            "bfloat16 or float16; use the checkpoint it was made from"
        )
    if config.get("is_encoder_decoder") is True:
        raise UserError(
            f"{where} is of an encoder-decoder ({config['model_type']}): featlas reads causal and masked "
            "language models"
        )


def _refuse_mixed(where: Path, config: Mapping[str, Any], nested: str) -> NoReturn:
    raise UserError(
        f"{where} is of a model of several kinds of input ({config['model_type']}, with {nested}) whose "
        "language model cannot be identified: save its language model in a separate folder"
    )


def _sizes(folder: Path, config: Mapping[str, Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for size, names in _NAMES.items():
        name = next((name for name in names if config.get(name) is not None), None)
        if name is None:
            continue
        value = config[name]
        if type(value) is not int or not 1 <= value <= _LARGEST[size]:
            if size == "max_context" and value == -1:  # no limit, for encoders without a table of positions
                continue
            shown = repr(value) if len(repr(value)) < 40 else type(value).__name__
            raise UserError(f"{folder / 'config.json'}: {name} is {shown}, not a size: fetch the model again")
        sizes[size] = value
    if sizes.get("d_model", 0) % sizes.get("n_heads", 1) and "head_dim" not in config:
        raise UserError(
            f"{folder / 'config.json'}: a width of {sizes['d_model']} cannot be shared by "
            f"{sizes['n_heads']} attention heads: fetch the model again"
        )
    return sizes


def _lacks_head(config: Mapping[str, Any], names: Iterable[str]) -> bool:
    if any(name.startswith(_HEADS) for name in names):
        return False
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else ""
    is_language_model = str(architecture).endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM", _MIXED))
    return config.get("tie_word_embeddings") is False or not is_language_model


def _check_weights(files: ModelFiles) -> None:
    if files.layout is None:
        return
    numbered = re.compile(rf"(?:^|\.){re.escape(files.layout.blocks)}\.(\d{{1,9}})\.")
    blocks = {int(found[1]) for name in files.shapes if (found := numbered.search(name))}
    n_layers = files.sizes.get("n_layers")
    if n_layers is not None and blocks != set(range(n_layers)):
        held = f"{min(blocks)} to {max(blocks)}" if blocks else "no blocks"
        raise UserError(
            f"{files.folder}: config.json says {n_layers} blocks, the weights hold {held}: "
            "the files belong to different models; fetch the model again"
        )
    wanted = (files.sizes.get("vocab_size"), files.sizes.get("d_model"))
    for name, shape in files.shapes.items():
        if _EMBEDDINGS.search(name) and None not in wanted and shape != wanted:
            raise UserError(
                f"{files.folder}: config.json says {wanted[0]} tokens of width {wanted[1]}, {name} has the "
                f"shape {shape}: the files belong to different models; fetch the model again"
            )
