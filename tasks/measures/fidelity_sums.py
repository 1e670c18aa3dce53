"""Effects of replaced activations on the predictions, summed over the predicted tokens and by document.

Shapes: N predicted tokens, G documents.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLEAN = "clean"


@dataclass
class Fidelity:
    """Sums over the predicted tokens, per replacement; the clean run is one of them."""

    n: int = 0
    ce_sums: dict[str, float] = field(default_factory=dict)
    kl_sums: dict[str, float] = field(default_factory=dict)
    documents: list[NDArray[Any]] = field(default_factory=list)
    """Document of each predicted token, by batch."""
    parts: dict[tuple[str, str], list[NDArray[Any]]] = field(default_factory=dict)
    """Cross-entropy and KL of each predicted token, by ("ce" or "kl", replacement) and batch."""

    def by_document(self, measure: str, name: str) -> NDArray[Any]:
        """Sum over the tokens of each document: (G,)."""
        return np.bincount(self._document(), np.concatenate(self.parts[measure, name]))

    def tokens_by_document(self) -> NDArray[Any]:
        """Tokens of each document: (G,)."""
        return np.bincount(self._document()).astype(np.float64)

    def _document(self) -> NDArray[Any]:
        return np.unique(np.concatenate(self.documents), return_inverse=True)[1]

    def with_controls(self, controls: "Fidelity") -> "Fidelity":
        """This one and the replacements that ran on the same tokens for another dictionary."""
        return Fidelity(
            self.n,
            {**controls.ce_sums, **self.ce_sums},
            {**controls.kl_sums, **self.kl_sums},
            self.documents,
            {**controls.parts, **self.parts},
        )

    def without(self, name: str) -> "Fidelity":
        """The part that other dictionaries of this hookpoint and k can use: all but one replacement."""
        return self.only(self.ce_sums.keys() - {name})

    def only(self, names: Collection[str]) -> "Fidelity":
        """Some of the replacements."""
        kept = {key: part for key, part in self.parts.items() if key[1] in names}
        ce, kl = ({k: v for k, v in sums.items() if k in names} for sums in (self.ce_sums, self.kl_sums))
        return Fidelity(self.n, ce, kl, self.documents, kept)

    def ce(self, name: str) -> float:
        """Mean cross-entropy in nats."""
        return self.ce_sums[name] / self.n

    def kl(self, name: str) -> float:
        """Mean KL divergence from the clean predictions in nats."""
        return self.kl_sums[name] / self.n

    def delta_ce(self, name: str) -> float:
        """Cross-entropy added by a replacement, in nats."""
        return self.ce(name) - self.ce(CLEAN)

    def ce_recovered(self, name: str, ablation: str) -> float | None:
        """Share of the ablation's damage that the replacement avoids; None if it does no damage."""
        damage = self.delta_ce(ablation)
        return (self.ce(ablation) - self.ce(name)) / damage if damage > 0 else None

    def kl_recovered(self, name: str, ablation: str) -> float | None:
        """The same by KL divergence."""
        damage = self.kl(ablation)
        return (damage - self.kl(name)) / damage if damage > 0 else None
