"""Language models: description without weights, loading, unembedding. The only file with transformers."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from catalog.errors import UserError, first_line
from tasks.activations.models.derived import QuantisationError, derive, run_digest
from tasks.activations.models.hookpoints import Layout, layout_of
from tasks.activations.models.multimodal import NESTED, language_part
from tasks.activations.models.source import (
    ModelConfig,
    count_parameters,
    model_folder,
    tokenizer_digest,
)
from tasks.activations.models.spec import ModelSpec, max_context, refuse_other_vocabulary, stated_size
from tasks.common.device import choose_device

__all__ = ["LanguageModel", "ModelConfig", "ModelSpec", "load_language_model", "read_model_spec"]

_HEADS = ("lm_head", "cls", "embed_out", "vocab_transform", "vocab_layer_norm", "vocab_projector")
_UNUSED = ("pooler",)
_BUFFERS = ("rotary_emb.inv_freq", "attn.bias", "masked_bias", "attention.bias", "position_ids")
"""Tensors that older checkpoints store with the weights and every model creates itself."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded model in evaluation mode with its tokenizer; ``model`` returns ``.logits``."""

    spec: ModelSpec
    model: Any
    tokenizer: Any
    device: torch.device
    has_head: bool = True
    """False for a checkpoint without a language-model head: its logits have no meaning."""
    quantisation: QuantisationError | None = None
    """What rounding its weights cost, for a model that is quantised on loading."""

    @property
    def layout(self) -> Layout | None:
        """How its blocks are built; None for a model type that is not in the table."""
        return layout_of(self.model.config)

    @property
    def pad_token_id(self) -> int:
        """The id that fills the end of a sequence; padding is masked, so any id works."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None and pad < self.spec.vocab_size else 0

    def unembedding(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """``W_U (d_model, vocab)`` and the final norm's gain ``(d_model,)``, float32 on the CPU.

        Both are None if logits are unknown or not linear in the normed stream, or the model has no head.
        """
        layout = self.layout
        output = self.model.get_output_embeddings()
        if layout is None or layout.final_norm is None or output is None or not self.has_head:
            return None, None
        norm = self.model.base_model.get_submodule(layout.final_norm)
        gain = norm.weight.detach().float().cpu() + layout.norm_offset
        return output.weight.detach().float().cpu().T.contiguous(), gain

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token in readable form, for lists of tokens (text is never joined from these)."""
        pieces = self.tokenizer.convert_ids_to_tokens([int(i) for i in token_ids])
        return [self._token_text(int(i), piece) for i, piece in zip(token_ids, pieces, strict=True)]

    def _token_text(self, token_id: int, piece: str | None) -> str:
        if piece is None:  # rows that pad the embedding beyond the tokenizer
            return f"[{token_id}]"
        if "\u2581" in piece:  # SentencePiece's visible space, which decoding alone would strip
            return piece.replace("\u2581", " ")
        if piece.startswith("##"):
            return piece
        text = str(self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))
        return piece if _REPLACEMENT in text or not text else text


def read_model_spec(config: ModelConfig) -> ModelSpec:
    """Describe a model from its files: no weights are loaded.

    Raises:
        UserError: when the files are missing, unsafe or damaged.
    """
    folder = model_folder(config)
    return _spec(config, folder, _model_config(folder), _tokenizer(folder))


def preview_model_spec(config: ModelConfig) -> ModelSpec:
    """`read_model_spec`, also in its errors, without the digests, which take as long as reading weights."""
    folder = model_folder(config)
    return _spec(config, folder, _model_config(folder), _tokenizer(folder), hashed=False)


def read_tokenizer(config: ModelConfig) -> Any:
    """The fast tokenizer of a model, without the model.

    Raises:
        UserError: when it is missing, damaged, or gives no character offsets.
    """
    return _tokenizer(model_folder(config))


def load_language_model(config: ModelConfig, device: str = "auto") -> LanguageModel:
    """Load weights (safetensors only, no remote code) onto a device, in evaluation mode, grads off.

    Raises:
        UserError: when the model cannot be loaded as requested.
    """
    import transformers

    folder = model_folder(config)
    model_config, tokenizer = _model_config(folder), _tokenizer(folder)
    spec = _spec(config, folder, model_config, tokenizer)
    target = choose_device(device)
    auto_class = transformers.AutoModelForCausalLM if spec.is_causal else transformers.AutoModelForMaskedLM
    if _is_mixed(folder):
        auto_class = transformers.AutoModelForImageTextToText
    with _loading(config, folder):
        model, loading = auto_class.from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    _refuse_left_out(config.id, folder, model, loading["unexpected_keys"])
    missing = sorted(key for key in loading["missing_keys"] if not set(key.split(".")) & set(_UNUSED))
    backbone = [key for key in missing if key.split(".")[0] not in _HEADS]
    if backbone:
        raise UserError(
            f"model {config.id!r}: {folder} lacks {len(backbone)} weights, the first is {backbone[0]}: "
            "fetch the model again"
        )
    if _is_mixed(folder):
        model = language_part(model, _empty(config, folder, model_config, spec))
    model.requires_grad_(False)
    quantisation = derive(model, config, model.get_output_embeddings())
    return LanguageModel(spec, model.eval().to(target), tokenizer, target, not missing, quantisation)


def empty_language_model(config: ModelConfig) -> Any:
    """The model without weights and without memory, to look its modules up.

    Raises:
        UserError: as `read_model_spec`.
    """
    folder = model_folder(config)
    model_config = _model_config(folder)
    spec = _spec(config, folder, model_config, _tokenizer(folder), hashed=False)
    return _empty(config, folder, model_config, spec)


def _empty(config: ModelConfig, folder: Path, model_config: Any, spec: ModelSpec) -> Any:
    import transformers

    auto_class = transformers.AutoModelForCausalLM if spec.is_causal else transformers.AutoModelForMaskedLM
    with _loading(config, folder), torch.device("meta"):
        return auto_class.from_config(model_config, trust_remote_code=False)


def _is_mixed(folder: Path) -> bool:
    """Whether the language model is a part of one that reads images too."""
    return getattr(_whole_config(folder), NESTED, None) is not None


def _refuse_left_out(model_id: str, folder: Path, model: Any, unexpected: Iterable[str]) -> None:
    """Refuse stored backbone weights that the configuration does not use; heads may be unused."""
    prefix, parts = f"{model.base_model_prefix}.", {name for name, _ in model.base_model.named_children()}
    left_out = sorted(
        key
        for key in unexpected
        if key.removeprefix(prefix).partition(".")[0] in parts and not key.endswith(_BUFFERS)
    )
    if left_out:
        raise UserError(
            f"model {model_id!r}: {folder} holds {len(left_out)} weights that its config.json does not "
            f"use, the first is {left_out[0]}: the files belong to different models; fetch the model again"
        )


def _whole_config(folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the configuration classes raise any error of their fields
        raise UserError(f"{folder / 'config.json'} cannot be read: {first_line(error)}") from error


def _model_config(folder: Path) -> Any:
    """Configuration of the language model: the whole, or what is within one that reads images too."""
    import transformers

    whole = _whole_config(folder)
    if getattr(whole, NESTED, None) is None:
        return whole
    if type(whole) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UserError(
            f"{folder}: Transformers has no model of type {whole.model_type!r} that reads images and writes "
            "text: save its language model in a folder of its own"
        )
    return whole.get_text_config()


def _tokenizer(folder: Path) -> Any:
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise UserError(f"the tokenizer in {folder} cannot be read: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer in {folder} gives no character offsets: save it as a fast tokenizer "
            "(tokenizer.json)"
        )
    return tokenizer


def _spec(
    config: ModelConfig, folder: Path, model_config: Any, tokenizer: Any, *, hashed: bool = True
) -> ModelSpec:
    import transformers

    layout = layout_of(model_config)
    names = getattr(model_config, "architectures", None) or [""]
    is_causal = layout.is_causal if layout is not None else not names[0].endswith("ForMaskedLM")
    kind = "causal" if is_causal else "masked"
    causal, masked = transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_MASKED_LM_MAPPING
    if type(model_config) not in (causal if is_causal else masked):
        raise UserError(
            f"{folder}: Transformers has no {kind} language model of type {model_config.model_type!r}"
        )
    begin = tokenizer.bos_token_id if is_causal else tokenizer.cls_token_id
    end = tokenizer.eos_token_id if is_causal else tokenizer.sep_token_id
    vocab_size = stated_size(folder, model_config, "vocab_size")
    refuse_other_vocabulary(folder, tokenizer, vocab_size, begin, end)
    return ModelSpec(
        model_id=config.id,
        source=config.source,
        revision=config.revision,
        architecture=str(model_config.model_type),
        n_layers=stated_size(folder, model_config, "num_hidden_layers"),
        d_model=stated_size(folder, model_config, "hidden_size"),
        vocab_size=vocab_size,
        max_context=max_context(model_config, layout),
        n_parameters=count_parameters(folder),
        tokenizer_digest=tokenizer_digest(folder) if hashed else "",
        weights_digest=run_digest(config) if hashed else "",
        is_causal=is_causal,
        bos_token_id=begin,
        eos_token_id=end,
        mask_token_id=tokenizer.mask_token_id,
    )


@contextmanager
def _loading(config: ModelConfig, folder: Path) -> Iterator[None]:
    """What goes wrong within is said in a sentence."""
    try:
        with _quiet():
            yield
    except Exception as error:  # what a configuration says may break any part of Transformers
        raise UserError(f"model {config.id!r} cannot be loaded from {folder}: {first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and warnings of Transformers: the caller checks what matters."""
    from transformers.utils import logging

    verbosity, bars_were_on = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars_were_on and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
            logging.enable_progress_bar()
