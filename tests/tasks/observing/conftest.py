"""Documents with labels, and features whose firing in them is drawn."""

import numpy as np
import pytest

from tasks.observing.documents import FiringBlock


def block_of(max_GL: np.ndarray) -> FiringBlock:
    """The firings of a dense table of document activations."""
    feature_R, document_R = np.nonzero(max_GL.T)
    return FiringBlock(feature_R, document_R, np.ones_like(feature_R), max_GL[document_R, feature_R])


def drawn(n_documents: int, n_features: int, seed: int = 0) -> np.ndarray:
    """Features that fire in 1 % to 99 % of documents, strengths with a long tail, every third with ties."""
    rng = np.random.default_rng(seed)
    share_L = np.linspace(0.01, 0.99, n_features)
    values = rng.lognormal(0, 1, (n_documents, n_features))
    values[:, ::3] = np.round(values[:, ::3], 1) + 0.1
    return np.where(rng.random(values.shape) < share_L, values, 0.0)


@pytest.fixture(scope="session")
def make():
    """The two functions above."""
    return block_of, drawn
