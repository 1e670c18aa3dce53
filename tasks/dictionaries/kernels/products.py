"""Dense products with the fastest library available, and encoding in slices that stay in the cache.

Legend: N tokens, D d_in, L d_sae, K kept per token, P pairs.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

_SLICE_BYTES = {"cpu": 1 << 24}  # pre-activations at once: larger blocks are mapped again each time
_LARGE_SLICE_BYTES = 1 << 30  # on other devices


def product(a_NM: Tensor, b_MK: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """``a @ b + bias``; fast where no graph is wanted.

    On processors with AVX-512 that are not Intel's, MKL uses only AVX2. oneDNN, which comes with torch,
    uses AVX-512 and is about twice as fast there. Strides of both factors may be anything; the result has
    the type of
    ``a``, under autocast too.
    """
    factors = (a_NM, b_MK) if bias_K is None else (a_NM, b_MK, bias_K)
    wants_graph = torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)
    is_single = all(factor.device.type == "cpu" and factor.dtype is torch.float32 for factor in factors)
    if is_single and not wants_graph and not torch.is_autocast_enabled("cpu") and _prefers_onednn():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(a_NM, b_MK.T, bias_K, "none", [], "")
        return result
    return linear(a_NM, b_MK.T, bias_K).to(a_NM.dtype)


def token_slices(x_ND: Tensor, n_latents: int) -> Iterator[slice]:
    """Slices of a batch whose codes fit into the cache, in multiples of eight tokens."""
    n_tokens, n_bytes = len(x_ND), _SLICE_BYTES.get(x_ND.device.type, _LARGE_SLICE_BYTES)
    size = max(n_bytes // (4 * n_latents) // 8 * 8, 8)
    for start in range(0, n_tokens, size):
        yield slice(start, min(start + size, n_tokens))


@cache
def _prefers_onednn() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return False
    processor = Path("/proc/cpuinfo")
    return processor.exists() and "GenuineIntel" not in processor.read_text()
