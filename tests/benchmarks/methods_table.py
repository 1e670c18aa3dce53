"""The table of methods at equal sparsity, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEADER = (
    "| L0 asked | method | setting | L0 | FVU | ΔCE (nats) | unseen | shrinkage γ | MMCS | absorbed "
    "| split | train (CPU s) |\n|--|--|--|--|--|--|--|--|--|--|--|--|"
)


@dataclass(frozen=True)
class Result:
    """A method at one sparsity: what was measured of the first seed, and how the second agrees."""

    target: int
    method: str
    field: str
    """The setting that was turned."""
    knob: float
    seconds: float
    """Processor time of the first seed's training on one thread."""
    values: Mapping[str, float | None]
    """l0, fvu, delta_ce, unseen_share, shrinkage; seed_mmcs and its null; the first-letter task's."""
    controls: Mapping[str, Mapping[str, float]]
    """fvu and delta_ce of PCA and of a random dictionary with k = the realised L0."""


def table(results: Sequence[Result]) -> str:
    """Rows by sparsity, the lowest FVU first; PCA and random directions at the end of each."""
    lines = [HEADER]
    for target in sorted({result.target for result in results}):
        rows = sorted((r for r in results if r.target == target), key=lambda r: r.values["fvu"] or 0)
        lines += [_line(row) for row in rows]
        nearest = min(rows, key=lambda r: abs((r.values["l0"] or 0) - target))
        lines += _control_lines(nearest)
    return "\n".join(lines)


def _line(r: Result) -> str:
    v = r.values
    columns = [str(r.target), r.method, f"{r.field} {r.knob:g}", _shown(v["l0"], 2), _shown(v["fvu"], 4)]
    columns += [_shown(v["delta_ce"], 4), f"{v['unseen_share'] or 0:.1%}", _shown(v["shrinkage"])]
    columns += [_shown(v[name]) for name in ("seed_mmcs", "absorption_fraction")]
    return _joined([*columns, _shown(v["split_latents"], 2), f"{r.seconds:.1f}"])


def _control_lines(r: Result) -> Iterator[str]:
    for name in ("pca", "random"):
        k = f"{r.controls['fvu']['k']:g}"
        mmcs = _shown(r.values["seed_mmcs_random"]) if name == "random" else "–"
        fvu, delta = (_shown(r.controls[metric][name], 4) for metric in ("fvu", "delta_ce"))
        yield _joined([str(r.target), f"*{name}*", f"k {k}", k, fvu, delta, "–", "–", mmcs, "–", "–", "–"])


def _joined(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def _shown(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
