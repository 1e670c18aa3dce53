"""The quality of a rule: it separates firing windows from silent ones, and firing tokens from quiet ones.

Rules are bit masks over the tokens of all windows, packed 64 tokens to a word.
Legend: M rules, W windows, T tokens, K 64-bit words of a window, G groups (firing, random, neighbour),
D documents.
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

    Firing windows count by their activation mass, so that weak firing does not outvote strong firing. Half of
    the value counts if the rule holds at some token of
    the window, and half if it holds at a firing one; the silent groups have equal weight. Shares of windows
    are (hits + 1/2) / (n + 1). Without silent windows the quiet tokens of firing windows replace them.

    The value is a constant plus a sum over windows, so it divides into what each document contributes.
    """

    def __init__(self, windows: Windows, group_W: npt.NDArray[Any]) -> None:
        self.group_W = group_W
        self.is_firing_W: Bools = group_W == 0
        self.firing_WT: Bools = windows.firing(FIRING_SHARE) & self.is_firing_W[:, None]
        quiet_WT = (windows.token_WT > 0) & self.is_firing_W[:, None] & ~self.firing_WT
        self.firing_WK, self.quiet_WK = pack(self.firing_WT), pack(quiet_WT)
        _, self.document_W = np.unique(windows.document_W.astype(str), return_inverse=True)
        self.n_documents = int(self.document_W.max(initial=-1)) + 1
        self._weigh(np.where(self.is_firing_W, windows.activation_WT.sum(axis=1), 0), group_W, quiet_WT)

    def _weigh(self, mass_W: npt.NDArray[Any], group_W: npt.NDArray[Any], quiet_WT: Bools) -> None:
        """What a window adds if a rule holds in it, at its firing tokens, and at each firing or quiet one."""
        size_G = np.bincount(group_W, minlength=N_GROUPS)[:N_GROUPS]
        silent = [group for group in (1, 2) if size_G[group]]
        windows_part = 1 - LOCAL_WEIGHT if silent else 0.5
        tokens_part = 1 - windows_part
        mass_W = mass_W * size_G[0] / max(float(mass_W.sum()), 1e-30) / (size_G[0] + 1)
        hit_W = windows_part / 4 * mass_W
        any_W = hit_W.copy()
        for group in silent:
            any_W[group_W == group] = -windows_part / 2 / len(silent) / (size_G[group] + 1)
        token = tokens_part / 2 / max(1, int(self.firing_WT.sum()))
        quiet = -tokens_part / 2 / max(1, int(quiet_WT.sum()))
        self._weights = any_W.astype(np.float32), hit_W.astype(np.float32)
        self._token, self._quiet = np.float32(token), np.float32(quiet)
        shrunk = sum(0.5 / (size_G[group] + 1) for group in silent) / max(1, len(silent))
        start = 0.5 / (size_G[0] + 1)
        self.base = windows_part / 2 * (start + 1 - (shrunk if silent else 0)) + tokens_part / 2
        if not silent:
            self.base = windows_part * start + tokens_part / 2

    def by_window(self, masks: Packed) -> npt.NDArray[np.float32]:
        """What each window adds (M, W) to `base`; the sum is the value of the rule."""
        any_W, hit_W = self._weights
        firing_MWK = masks & self.firing_WK
        added_MW = (masks != 0).any(axis=-1) * any_W
        added_MW += (firing_MWK != 0).any(axis=-1) * hit_W
        added_MW += _n_bits(firing_MWK) * self._token
        added_MW += _n_bits(masks & self.quiet_WK) * self._quiet
        return np.asarray(added_MW, np.float32)

    def __call__(self, masks: Packed) -> Values:
        """The value (M,) of each rule, 0 to 1."""
        return np.asarray(self.base + self.by_window(masks).sum(axis=-1, dtype=np.float64), np.float64)

    def by_document(self, masks: Packed) -> Values:
        """What each document adds (M, D)."""
        member_WD = np.zeros((len(self.document_W), self.n_documents), np.float32)
        member_WD[np.arange(len(self.document_W)), self.document_W] = 1
        return np.asarray(self.by_window(masks) @ member_WD, np.float64)

    def error(self, mask: Packed) -> float:
        """The standard error of the value of one rule (W, K), of windows drawn from each group.

        Each group has one more window of the other outcome, so that few windows that agree prove little.
        """
        added_W = self.by_window(mask[None])[0].astype(np.float64)
        variance = 0.0
        for group in range(N_GROUPS):
            own_W = added_W[self.group_W == group]
            if len(own_W):
                other = 0.0 if group == 0 else float(self._weights[0][self.group_W == group].min())
                variance += len(own_W) * float(np.var([*own_W, other], ddof=1))
        return float(np.sqrt(variance))

    def n_supporting(self, masks: Packed) -> npt.NDArray[np.intp]:
        """The number of documents (M,) in which each rule holds at a firing token."""
        hit_MW = (masks & self.firing_WK != 0).any(axis=-1)
        member_WD = self.document_W[:, None] == np.arange(self.n_documents)
        return np.asarray((hit_MW @ member_WD.astype(np.float32) > 0).sum(axis=-1), np.intp)

    def shares(self, mask: Packed) -> tuple[float, float]:
        """The shares of the firing and of the silent windows for which a rule (W, K) holds."""
        holds_W = np.asarray(mask.any(axis=-1), bool)
        silent_W = holds_W[~self.is_firing_W]
        return float(holds_W[self.is_firing_W].mean()), float(silent_W.mean()) if len(silent_W) else 0.0


def pack(mask: Bools) -> Packed:
    """Bits of the last axis, 64 to a word, the rest zero."""
    n_words = -(-mask.shape[-1] // 64)
    packed = np.zeros((*mask.shape[:-1], n_words * 8), np.uint8)
    bits = np.packbits(mask, axis=-1)
    packed[..., : bits.shape[-1]] = bits
    return packed.view(np.uint64)


def _n_bits(masks: Packed) -> npt.NDArray[np.float32]:
    """Bits set in each window (M, W) of masks (M, W, K)."""
    return np.asarray(np.bitwise_count(masks).sum(axis=-1), np.float32)
