"""The paths of plain torch, to compare the compiled kernels with."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.dictionaries.kernels import native


@contextmanager
def without_kernels() -> Iterator[None]:
    """Inside it no compiled kernel is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_load", lambda: (None, "left out by a test"))
        yield
