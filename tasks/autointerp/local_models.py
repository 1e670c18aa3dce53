"""Models that score in this process: a text encoder and a causal language model, from a folder.

Texts go in sorted by length, in batches, padded at their end under a mask. Nothing is kept between batches:
a cache of keys and values that one batch has grown would change the next one.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from catalog.errors import UserError
from tasks.activations.models.files import ModelFiles
from tasks.activations.models.source import (
    ModelConfig,
    check_model_folder,
    model_folder,
    tokenizer_digest,
    weights_digest,
)
from tasks.autointerp.metrics import Values
from tasks.common.paths import is_folder, user_path
from tasks.common.plain_files import read_json_object

if TYPE_CHECKING:
    from tasks.activations.models.language_model import LanguageModel

Pooling = Literal["mean", "cls", "last"]
POOLING_FILE = Path("1_Pooling") / "config.json"
_POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
MOST_NUMBERS = 2**25
"""Numbers of the largest output of one batch: 128 MB."""
MOST_TOKENS = 512
"""Tokens of a text that an encoder reads."""


def local_model(name: str) -> ModelConfig:
    """The model that a name or folder means: a folder if there is one, else a model that comes with featlas.

    Raises:
        UserError: when it is neither.
    """
    folder = user_path(name)
    if is_folder(folder):
        return ModelConfig(id="local", source="local", path=str(folder))
    if "/" in name or name.startswith((".", "~")):
        raise UserError(f"model folder {folder} does not exist: check 'model'")
    return ModelConfig(id=name, source="embedded")


def check_files(name: str) -> ModelFiles:
    """The files of a model, checked.

    Raises:
        UserError: when they are missing, unsafe or damaged.
    """
    return check_model_folder(model_folder(local_model(name)))


def check_causal(name: str) -> None:
    """Refuse a model that gives no probabilities of the next token.

    Raises:
        UserError: naming the folder.
    """
    from tasks.activations.models.language_model import preview_model_spec

    files = check_files(name)
    if not preview_model_spec(local_model(name)).is_causal:
        raise UserError(f"{files.folder} is a masked language model: surprisal needs a causal one")
    if files.lacks_head:
        raise UserError(
            f"{files.folder} has no language-model head, so it gives no probabilities: "
            "name a model that was saved with one"
        )


def files_digest(name: str) -> str:
    """What the outputs of a model depend on: its weights and its tokenizer."""
    folder = model_folder(local_model(name))
    return f"{weights_digest(folder)} {tokenizer_digest(folder)}"


def pooling_of(name: str) -> Pooling:
    """How an encoder makes one vector of those of its tokens, as the sentence-transformers layout says.

    Raises:
        UserError: when it does not say, or means another way.
    """
    folder = model_folder(local_model(name))
    path = folder / POOLING_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} has no {POOLING_FILE}, so it is unknown how token vectors become one of the text: "
            "set pooling to mean, cls or last"
        )
    plain = read_json_object(path, "fetch the model again")
    chosen = [key for key, value in plain.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise UserError(
            f"{path} asks for {' and '.join(chosen) or 'no pooling'}, which featlas does not do: "
            "set pooling to mean, cls or last if the model allows it"
        )
    return _POOLINGS[chosen[0]]


def _load(name: str) -> "LanguageModel":
    from tasks.activations.models.language_model import load_language_model

    return load_language_model(local_model(name))


class Encoder:
    """Unit vectors of texts."""

    def __init__(self, name: str, pooling: Pooling) -> None:
        self.pooling = pooling
        self._model = _load(name)
        self._longest = min(self._model.spec.max_context or MOST_TOKENS, MOST_TOKENS)

    def encode(self, texts: Sequence[str]) -> Values:
        """One unit vector per text (N, d); texts are cut to what the model reads."""
        import torch

        ids = self._model.tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        width = self._model.spec.d_model
        vectors = np.zeros((len(texts), width))
        for chosen, ids_BT, mask_BT in _batches(ids, width, self._model):
            with torch.inference_mode():
                hidden_BTD = self._model.model.base_model(ids_BT, attention_mask=mask_BT).last_hidden_state
                vectors[chosen] = _pooled(hidden_BTD.float(), mask_BT, self.pooling).cpu().numpy()
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Values = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return unit


def _pooled(hidden_BTD: Any, mask_BT: Any, pooling: Pooling) -> Any:
    """One vector per text: the mean over its tokens, or that of its first or last token."""
    if pooling == "cls":
        return hidden_BTD[:, 0]
    if pooling == "last":
        last_B = mask_BT.sum(dim=1).clamp(min=1) - 1
        return hidden_BTD[range(len(hidden_BTD)), last_B]
    weight_BT1 = mask_BT.to(hidden_BTD.dtype).unsqueeze(-1)
    return (hidden_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1)


class CausalModel:
    """Losses of texts after a prompt."""

    def __init__(self, name: str) -> None:
        self._model = _load(name)

    def losses(self, prompt: str, texts: Sequence[str]) -> Values:
        """Mean cross-entropy (nats per token) of each text (N,) after the prompt; NaN for an empty text.

        The tokens of a text are the same after every prompt. Of a text that is too long its start is read, of
        a prompt that is too long its start and its end.
        """
        import torch
        from torch.nn.functional import cross_entropy

        longest = self._model.spec.max_context
        before = self._ids(prompt, is_start=True)
        own = [self._ids(text)[: None if longest is None else longest // 2] for text in texts]
        if longest is not None:
            before = _shortened(before, longest - max(map(len, own), default=0))
        losses = np.full(len(texts), np.nan)
        n_before = len(before)
        ids = [[*before, *text] for text in own]
        for chosen, ids_BT, mask_BT in _batches(ids, self._model.spec.vocab_size, self._model):
            with torch.inference_mode():
                logits_BTV = self._model.model(ids_BT, attention_mask=mask_BT, use_cache=False).logits
                said_BTV = logits_BTV[:, n_before - 1 : -1].float()
                loss_BT = cross_entropy(said_BTV.transpose(1, 2), ids_BT[:, n_before:], reduction="none")
                kept_BT = mask_BT[:, n_before:]
                n_B = kept_BT.sum(dim=1)
                loss_B = ((loss_BT * kept_BT).sum(dim=1) / n_B).cpu().numpy()
            losses[chosen] = np.where(n_B.cpu().numpy() > 0, loss_B, np.nan)
        return losses

    def _ids(self, text: str, *, is_start: bool = False) -> list[int]:
        """Token ids of a text; the first prompt begins as the model's texts do."""
        ids = self._model.tokenizer(text, add_special_tokens=False)["input_ids"]
        begin = self._model.spec.bos_token_id
        begin = self._model.spec.eos_token_id if begin is None else begin
        return [begin, *ids] if is_start and begin is not None else list(ids)


def _shortened(ids: list[int], most: int) -> list[int]:
    """At most ``most`` ids: half of them from the start."""
    if len(ids) <= most:
        return ids
    half = most // 2
    return [*ids[:half], *ids[len(ids) - (most - half) :]]


def _batches(
    ids: Sequence[Sequence[int]], width: int, model: "LanguageModel"
) -> Iterator[tuple[npt.NDArray[np.intp], Any, Any]]:
    """Rows of texts of similar length, with their ids and mask (B, T), padded at the end."""
    import torch

    order = sorted(range(len(ids)), key=lambda row: len(ids[row]), reverse=True)
    start = 0
    while start < len(order):
        n_tokens = max(len(ids[order[start]]), 1)
        chosen = order[start : start + max(1, MOST_NUMBERS // (n_tokens * width))]
        start += len(chosen)
        ids_BT = torch.full((len(chosen), n_tokens), model.pad_token_id)
        mask_BT = torch.zeros((len(chosen), n_tokens), dtype=torch.long)
        for place, row in enumerate(chosen):
            ids_BT[place, : len(ids[row])] = torch.tensor(ids[row], dtype=torch.long)
            mask_BT[place, : len(ids[row])] = 1
        yield np.asarray(chosen, np.intp), ids_BT.to(model.device), mask_BT.to(model.device)
