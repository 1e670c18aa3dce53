"""What all golden cases share: sizes, inputs, random weights, and what a peer makes of them.

``write_peers.py`` and ``write_published.py`` beside it write the cases. Each is a folder: what the peer
wrote, or what is published in its form, and ``expected.safetensors`` with ``x`` (N, D), ``acts`` (N, L) and
``out`` (N, E) by the peer's own encode and decode.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
D_IN, D_SAE, K, N, STEPS = 8, 24, 3, 12, 300


def inputs(n, seed=0):
    """Sums of two of 16 planted unit directions around a constant, as activations look."""
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(16, D_IN, generator=torch.Generator().manual_seed(99))
    directions /= directions.norm(dim=1, keepdim=True)
    x = torch.full((n, D_IN), 0.3)
    for _ in range(2):
        chosen = torch.randint(0, 16, (n,), generator=random)
        x = x + (1 + torch.rand(n, 1, generator=random)) * directions[chosen]
    return x


def randomise(module, skip=()):
    """Every parameter random, so that no convention hides behind a zero or a unit norm."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if name not in skip and tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=random) * 0.5)
            if name in ("threshold", "topk_threshold"):
                tensor.abs_()


def is_wanted(case):
    """Whether a case is written: all of them, or those named on the command line."""
    return len(sys.argv) < 3 or case in sys.argv[2:]


def expect(folder, acts, out, x):
    tensors = {"x": x, "acts": acts, "out": out}
    save_file(
        {k: v.detach().float().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors"
    )
