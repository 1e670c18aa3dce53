"""The training log: one row per logged step and metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks.dictionaries.training_state import TrainingState, TrainingStep

_LOGGED_STEPS = 200

SCHEMA = pa.schema(
    [("step", pa.int64()), ("n_tokens", pa.int64()), ("metric", pa.string()), ("value", pa.float64())]
)


class TrainingLog:
    """Rows (step, n_tokens, metric, value) in the order of the steps; part of every checkpoint."""

    def __init__(self, rows: Sequence[Sequence[Any]] = ()) -> None:
        self.rows: list[list[Any]] = [list(row) for row in rows]

    def add(self, step: int, n_tokens: int, values: Mapping[str, float]) -> None:
        """Record the metrics of one step."""
        self.rows.extend([step, n_tokens, metric, float(value)] for metric, value in values.items())

    def note(self, result: TrainingStep, state: TrainingState, lr: float) -> None:
        """Record the step just done: the first, the last and about 200 in between."""
        if state.step % max(state.n_steps // _LOGGED_STEPS, 1) and state.step not in (1, state.n_steps):
            return
        values = {
            "loss": float(result.loss),
            "fvu": float(result.sse) / state.total_variance,
            "l0": float(result.l0),
            "lr": lr,
            "unseen_share": float(state.dead.float().mean()),
            **{name: float(value) for name, value in result.parts.items()},
        }
        self.add(state.step, state.n_tokens, values)

    def table(self) -> pa.Table:
        """The log as the columns of ``training_log`` without its ids."""
        columns = list(zip(*self.rows, strict=True)) or [(), (), (), ()]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)
