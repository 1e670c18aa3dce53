"""OpenAI's autoencoders: one pickled state (Gao et al. 2024, arXiv 2406.04093, openai/sparse_autoencoder).

``pre_bias`` is taken from the input and added to the output. The name of the activation stands in the state;
where it is TopK the inputs are layer-normalised, each token by itself, and the output is scaled back.
"""

from pathlib import Path

from catalog.errors import UserError
from tasks.foreign.config_keys import report_tensors, whole
from tasks.foreign.format import FORMATS, Format
from tasks.foreign.record import Activation, Foreign
from tasks.foreign.tensor_files import read_stored

_TENSORS = ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")
_ACTIVATIONS: dict[str, Activation] = {"ReLU": "relu", "TopK": "topk"}


@FORMATS.register("openai")
class OpenAi(Format):
    """Reads the state of one autoencoder."""

    purpose = "reads autoencoders of openai/sparse_autoencoder"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The autoencoder of a file."""
        stored = read_stored(path, allow_pickle=allow_pickle)
        tensors, values = stored.tensors, stored.values
        missing = [name for name in _TENSORS if name not in tensors]
        if missing:
            raise UserError(f"{path} has no {missing[0]}; it has {', '.join(sorted(tensors))}")
        name = values.get("activation", "ReLU")
        if name not in _ACTIVATIONS or values.get("activation_state_dict.postact_fn", "ReLU") != "ReLU":
            raise UserError(f"{path}: featlas cannot read the activation {name!r}; it reads ReLU and TopK")
        report_tensors(path, tensors, (*_TENSORS, "stats_last_nonzero"))
        k = whole(path, values, "activation_state_dict.k")
        return Foreign(
            source=str(path),
            activation=_ACTIVATIONS[name],
            W_enc=tensors["encoder.weight"].mT.contiguous(),
            W_dec=tensors["decoder.weight"].mT.contiguous(),
            b_enc=tensors["latent_bias"],
            b_dec=tensors["pre_bias"],
            k=k,
            token_norm="layer_norm" if name == "TopK" else "none",
            described={"activation": name, "k": k},
        )
