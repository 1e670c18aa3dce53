"""The quality of a rule: it separates firing windows from silent ones, and firing tokens from quiet ones.

Rules are bit masks over the tokens of all windows, packed 64 tokens to a word.
Legend: M rules, W windows, T tokens, K 64-bit words of a window, G groups (firing, random, neighbour).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.candidates import FIRING_SHARE
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Windows

Packed = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]
LOCAL_WEIGHT = 0.3
"""Weight of separating tokens inside firing windows, relative to separating windows."""
N_GROUPS = 3


class Objective:
    """Balanced accuracy over windows, shrunk towards a half, and over the tokens of firing windows.

    Firing windows count by their activation mass, so that weak firing does not outvote strong firing. Half
    of the value counts if the rule holds at some token of the window, and half if it holds at a firing one;
    the silent groups have equal weight. Shares of windows are (hits + 1/2) / (n + 1). Without silent
    windows the quiet tokens of firing windows replace them.
    """

    def __init__(self, windows: Windows, group_W: npt.NDArray[Any]) -> None:
        self.is_firing_W: Bools = group_W == 0
        self.firing_WT: Bools = windows.firing(FIRING_SHARE) & self.is_firing_W[:, None]
        quiet_WT = (windows.token_WT > 0) & self.is_firing_W[:, None] & ~self.firing_WT
        self.firing_WK, self.quiet_WK = pack(self.firing_WT), pack(quiet_WT)
        self.n_firing, self.n_quiet = max(1, int(self.firing_WT.sum())), max(1, int(quiet_WT.sum()))
        self._member_WG = (group_W[:, None] == np.arange(N_GROUPS)).astype(np.float32)
        mass_W = windows.activation_WT.sum(axis=1)[self.is_firing_W]
        self._member_WG[self.is_firing_W, 0] = mass_W / max(
            float(mass_W.mean()) if len(mass_W) else 0.0, 1e-30
        )
        self._size_G = self._member_WG.sum(axis=0)
        self._silent_G = np.flatnonzero(self._size_G[1:] > 0) + 1

    def __call__(self, masks: Packed) -> Values:
        """The value (M,) of each rule, 0 to 1."""
        firing_MWK = masks & self.firing_WK
        share_MG = self._shares(masks)
        hit_M = (share_MG[:, 0] + self._shares(firing_MWK)[:, 0]) / 2
        quiet_M = _n_bits(masks & self.quiet_WK) / self.n_quiet
        tokens_M = (_n_bits(firing_MWK) / self.n_firing + 1 - quiet_M) / 2
        if not len(self._silent_G):
            return np.asarray((hit_M + tokens_M) / 2, np.float64)
        windows_M = (hit_M + 1 - share_MG[:, self._silent_G].mean(axis=1)) / 2
        return np.asarray((1 - LOCAL_WEIGHT) * windows_M + LOCAL_WEIGHT * tokens_M, np.float64)

    def shares(self, mask: Packed) -> tuple[float, float]:
        """The shares of the firing and of the silent windows for which a rule (W, K) holds."""
        holds_W = np.asarray(mask.any(axis=-1), bool)
        silent_W = holds_W[~self.is_firing_W]
        return float(holds_W[self.is_firing_W].mean()), float(silent_W.mean()) if len(silent_W) else 0.0

    def _shares(self, masks: Packed) -> npt.NDArray[np.float32]:
        """Shrunk share of each group's windows (M, G) with a bit set."""
        n_MG = (masks != 0).any(axis=-1).astype(np.float32) @ self._member_WG
        return np.asarray((n_MG + 0.5) / (self._size_G + 1), np.float32)


def pack(mask: Bools) -> Packed:
    """Bits of the last axis, 64 to a word, the rest zero."""
    n_words = -(-mask.shape[-1] // 64)
    packed = np.zeros((*mask.shape[:-1], n_words * 8), np.uint8)
    bits = np.packbits(mask, axis=-1)
    packed[..., : bits.shape[-1]] = bits
    return packed.view(np.uint64)


def _n_bits(masks: Packed) -> Values:
    """Bits set in each mask (M, W, K)."""
    return np.asarray(np.bitwise_count(masks).sum(axis=(-1, -2)), np.float64)
