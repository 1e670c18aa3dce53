"""Further columns of the synthetic features."""

import math
from typing import Any

LOGITS: dict[str, Any] = {
    "logit_histogram": [
        {"low": -3.0 + i / 2, "high": -2.5 + i / 2, "n": [3, 40, 700, 2_100, 900, 160, 20, 0, 0, 4][i]}
        for i in range(10)
    ],
    "logit_skewness": 1.24,
    "logit_kurtosis": 4.6,
    "logit_skewness_null": 0.31,
    "logit_kurtosis_null": 0.9,
}


def activation_bins(largest: float) -> list[dict[str, Any]]:
    """A histogram of activations that falls off towards the largest."""
    return [
        {"low": largest * i / 24, "high": largest * (i + 1) / 24, "n": int(4000 * math.exp(-i / 3))}
        for i in range(24)
    ]
