"""Selects the device and fixes the random seeds."""

import torch

from catalog.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA if there is a usable GPU, else the CPU.

    Raises:
        UserError: when this machine does not have the requested device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name!r} is not available here: use 'cpu' or 'auto'")
    try:
        return torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: use 'auto', 'cpu' or 'cuda'") from None
