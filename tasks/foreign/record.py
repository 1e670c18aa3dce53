"""A dictionary of another tool in one neutral form, read but not yet one of ours.

Legend: D d_in, E d_out, L d_sae. A reader fills it with what the file says; ``assembly`` folds the
conventions that ours do not have into the weights; the import gate tries others on the same record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.token_norm import TokenNorm
from tasks.dictionaries.widths import Widths

Activation = Literal[
    "relu", "topk", "abs_topk", "group_max", "batch_topk", "jumprelu", "gated", "matching_pursuit"
]
"""``abs_topk`` keeps the k values of a token that are largest in magnitude, with their signs; ``group_max``
the largest of each of k equal groups of neighbouring latents, if it is positive."""
PER_TOKEN = ("topk", "abs_topk", "group_max", "matching_pursuit")
"""Activations that choose k latents of every token."""
Kind = Literal["autoencoder", "transcoder", "crosscoder"]

LARGEST_VALUES = 2**34
"""Numbers in one weight matrix: 64 GiB in float32; a file that claims more is refused."""


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention layers of a temporal dictionary, see `tasks.dictionaries.architectures.temporal`."""

    n_heads: int
    n_layers: int
    bottleneck_factor: int
    """Latents per dimension of queries and keys, all heads together."""
    tensors: Mapping[str, Tensor]
    """By name: ``attn_layers.0.k_ctx.weight`` and so on."""
    epsilon: float = 1e-6
    """What is added to the norm of a prediction, in the units of the directions."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """Weights with the conventions under which they are used; tensors are float32 on the CPU."""

    source: str
    """File or folder, for messages."""
    activation: Activation
    W_enc: Tensor
    """(D, L); hookpoints of a crosscoder are concatenated."""
    W_dec: Tensor
    """(L, E), one direction per row."""
    b_enc: Tensor
    """(L,); of a gated dictionary the bias of the gate."""
    b_dec: Tensor
    """(E,)"""
    kind: Kind = "autoencoder"
    k: int | None = None
    """Latents per token (mean, for batch_topk); steps of matching pursuit."""
    threshold: Tensor | None = None
    """(L,) or one number (), in the units of the activations."""
    r_mag: Tensor | None = None
    """(L,): logarithm of the factor of a gated dictionary's magnitudes."""
    b_mag: Tensor | None = None
    """(L,): bias of a gated dictionary's magnitudes."""
    W_skip: Tensor | None = None
    """(D, E): linear path around the latents of a transcoder, ``x W_skip``."""
    residual_threshold: float = 0.0
    """Residual norm at which matching pursuit stops."""
    stop_on_repeat: bool = False
    """Whether matching pursuit stops at the first step that selects a latent again."""
    centred: bool = True
    """Whether ``b_dec`` is subtracted from the input before the encoder."""
    scale: float = 1.0
    """Factor that its inputs had in training and that the file has not folded in."""
    site_scales: tuple[float, ...] = ()
    """The same of a crosscoder, by hookpoint; empty where ``scale`` is that of all."""
    token_norm: TokenNorm = "none"
    by_decoder_norm: bool = False
    """Whether activations are pre-activations times the norm of the direction, which is divided out again."""
    attention: Attention | None = None
    """What a temporal dictionary predicts of a token from the codes of those before it."""
    groups: tuple[int, ...] | None = None
    """Sizes of the nested groups of a Matryoshka dictionary."""
    n_hookpoints: int = 1
    """Hookpoints that a crosscoder reads and writes."""
    reads: tuple[str, ...] = ()
    """Hookpoints in our vocabulary, as far as the file names them."""
    writes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Models that a crosscoder reads together, as the user names them; empty if there is one."""
    model_name: str | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    """Configuration as found."""

    @property
    def d_in(self) -> int:
        return int(self.W_enc.shape[0])

    @property
    def d_out(self) -> int:
        return int(self.W_dec.shape[1])

    @property
    def d_sae(self) -> int:
        return int(self.W_enc.shape[1])

    @property
    def widths(self) -> Widths:
        """Widths of the hookpoints it reads and writes."""
        n = self.n_hookpoints
        return Widths((self.d_in // n,) * n, (self.d_out // n,) * n)

    @property
    def lacks_threshold(self) -> bool:
        """Whether it encodes with a threshold that the file does not have."""
        return self.activation in ("jumprelu", "batch_topk") and self.threshold is None

    @property
    def remarks(self) -> dict[str, str]:
        """What a user of the assembled dictionary must know, by keyword; stored with its weights."""
        if self.activation != "abs_topk":
            return {}
        n = self.d_sae
        return {"sides": f"latent i + {n} is the negative side of latent i, for i from 0 to {n - 1}"}

    def with_(self, **changes: Any) -> "Foreign":
        """The same dictionary by other conventions."""
        return replace(self, **changes)


def check_foreign(foreign: Foreign) -> Foreign:
    """Refuse weights that do not fit together or are not numbers; return the dictionary.

    Raises:
        UserError: one sentence that names source, tensor and remedy.
    """
    _check_matrices(foreign)
    shapes: dict[str, tuple[int, ...]] = {
        "b_enc": (foreign.d_sae,),
        "b_dec": (foreign.d_out,),
        "r_mag": (foreign.d_sae,),
    }
    shapes |= {"b_mag": (foreign.d_sae,), "W_skip": (foreign.d_in, foreign.d_out)}
    for name, shape in shapes.items():
        tensor = getattr(foreign, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise UserError(f"{foreign.source}: {name} has the shape {tuple(tensor.shape)}, not {shape}")
    if foreign.threshold is not None and tuple(foreign.threshold.shape) not in ((), (foreign.d_sae,)):
        found = tuple(foreign.threshold.shape)
        raise UserError(f"{foreign.source}: threshold has the shape {found}, not ({foreign.d_sae},)")
    for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "r_mag", "b_mag", "W_skip"):
        tensor = getattr(foreign, name)
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"{foreign.source}: {name} has values that are NaN or infinite: the file is damaged, or its "
                "training diverged; fetch it again"
            )
    if foreign.activation in PER_TOKEN and not 1 <= (foreign.k or 0) <= foreign.d_sae:
        raise UserError(
            f"{foreign.source}: a {foreign.activation} dictionary of {foreign.d_sae} latents needs k between "
            f"1 and {foreign.d_sae}, the file says {foreign.k}: pass --set k=..."
        )
    if foreign.W_skip is not None and foreign.kind != "transcoder":
        raise UserError(
            f"{foreign.source}: an {foreign.kind} with a linear path past its latents is not known to featlas"
        )
    if foreign.activation == "group_max" and foreign.d_sae % (foreign.k or 1):
        raise UserError(
            f"{foreign.source}: {foreign.d_sae} latents do not fall into k = {foreign.k} equal groups"
        )
    return foreign


def _check_matrices(foreign: Foreign) -> None:
    for name in ("W_enc", "W_dec"):
        tensor: Tensor = getattr(foreign, name)
        if tensor.ndim != 2 or 0 in tensor.shape or tensor.numel() > LARGEST_VALUES:
            raise UserError(
                f"{foreign.source}: {name} has the shape {tuple(tensor.shape)}, not (rows, columns)"
            )
    if foreign.W_dec.shape[0] == foreign.d_sae:
        if foreign.kind == "transcoder" or foreign.d_out == foreign.d_in:
            return
    elif foreign.W_dec.shape[1] == foreign.d_sae:
        raise UserError(
            f"{foreign.source}: W_dec has the shape {tuple(foreign.W_dec.shape)}, one direction per column "
            "instead of per row: pass --set decoder=transposed"
        )
    raise UserError(
        f"{foreign.source}: W_enc {tuple(foreign.W_enc.shape)} and W_dec {tuple(foreign.W_dec.shape)} do not "
        "belong together"
    )
