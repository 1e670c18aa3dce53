"""How values inside a block reach the residual stream.

Shapes: W width of the hookpoint, D width of the residual stream.
"""

from torch import Tensor, nn

from tasks.activations.models.hookpoints import resolve_hookpoint
from tasks.activations.models.language_model import LanguageModel

_WRITTEN_STRAIGHT = ("pre_norm", "parallel")
_PROJECTED = ("attn_z", "mlp_act")


def output_projection(language_model: LanguageModel, hookpoint: str) -> Tensor | None:
    """The matrix that ``attn_z`` or ``mlp_act`` is multiplied by: (W, D), float32, on the CPU.

    None for other hookpoints, and if a norm comes between the product and the stream.
    """
    layout = language_model.layout
    if hookpoint.rpartition(".")[2] not in _PROJECTED or layout is None:
        return None
    if layout.family not in _WRITTEN_STRAIGHT:
        return None
    module = language_model.model.get_submodule(resolve_hookpoint(language_model.model, hookpoint).module)
    weight: Tensor = module.weight.detach().float().cpu()
    return weight.T if isinstance(module, nn.Linear) else weight  # Transformers' Conv1D stores (in, out)
