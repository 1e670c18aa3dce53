"""The widths of the activations that a dictionary reads and writes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Widths:
    """Widths of the hookpoints that a dictionary reads and of those it writes, in order."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]

    @classmethod
    def single(cls, width: int) -> "Widths":
        """One hookpoint, read and written."""
        return cls((width,), (width,))

    @property
    def d_in(self) -> int:
        """Width of the inputs, all hookpoints together."""
        return sum(self.reads)

    @property
    def d_out(self) -> int:
        """Width of the outputs, all hookpoints together."""
        return sum(self.writes)
