"""Gemma Scope: ``params.npz`` below ``layer_L/width_W/average_l0_N``.

Lieberum et al. 2024, arXiv 2408.05147. JumpReLU without b_dec taken from the input. Layer, site and mean L0
are said by the folders alone. The dictionaries of the embedding saw it without the factor sqrt(d_model)
that Gemma gives it.
"""

import re
from pathlib import Path

from catalog.errors import UserError
from tasks.dictionaries.formats.foreign import Foreign
from tasks.dictionaries.formats.format import FORMATS, Format
from tasks.dictionaries.formats.tensor_files import read_stored

WEIGHTS_FILE = "params.npz"
_LAYER, _L0 = re.compile(r"layer_(\d+)"), re.compile(r"average_l0_(\d+)")
_SITES = {"-res": "resid_post", "-att": "attn_z", "-mlp": "mlp_out"}
_TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")


@FORMATS.register("gemma_scope")
class GemmaScope(Format):
    """Reads one ``params.npz``, or the folder that holds it."""

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The dictionary of a file."""
        weights = path / WEIGHTS_FILE if path.is_dir() else path
        tensors = read_stored(weights, allow_pickle=allow_pickle).tensors
        missing = [name for name in _TENSORS if name not in tensors]
        if missing:
            raise UserError(f"{weights} has no {missing[0]}; it has {', '.join(sorted(tensors))}")
        place = weights.absolute().as_posix()
        layer, l0 = _LAYER.search(place), _L0.search(place)
        is_transcoder = "transcoder" in place
        site = next((name for mark, name in _SITES.items() if mark in place), None)
        reads = writes = (f"blocks.{layer[1]}.{site}",) if layer and site else ()
        if is_transcoder:
            block = f"blocks.{layer[1]}" if layer else ""
            reads, writes = ((f"{block}.mlp_in",), (f"{block}.mlp_out",)) if layer else ((), ())
        return Foreign(
            source=str(weights),
            activation="jumprelu",
            kind="transcoder" if is_transcoder else "autoencoder",
            W_enc=tensors["W_enc"],
            W_dec=tensors["W_dec"],
            b_enc=tensors["b_enc"],
            b_dec=tensors["b_dec"],
            threshold=tensors.get("threshold"),
            k=int(l0[1]) if l0 else None,
            centred=False,
            reads=reads,
            writes=writes,
        )
