"""The result of the import gate for a foreign dictionary: stored with its weights and as metrics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from catalog.errors import UserError
from catalog.ids import canonical_json
from tasks.foreign.sample import Hookpoints

VERSION = 1
METRIC_VERSION = 1


class Figures(NamedTuple):
    """The measurements of one reading."""

    fvu: float
    l0: float
    unseen_share: float
    """Share of latents that fired on none of the tokens."""
    n: int


class Tried(NamedTuple):
    """One other way to read the file."""

    setting: str
    value: str
    fvu: float
    l0: float


@dataclass(frozen=True)
class Certificate:
    """The result of the gate; stored with the dictionary."""

    verified: bool
    reason: str | None
    """Why it is not verified, as a clause."""
    hookpoints: Hookpoints
    settings: Mapping[str, Any]
    """How the file was read, if not as it states."""
    figures: Figures
    random_fvu: float | None
    """FVU of a random dictionary of the same k; None if inputs are not reconstructed."""
    fitting: Mapping[str, Any]
    """Settings that fit clearly better, ``hookpoint`` and ``model`` among them; empty when there are none."""
    fitting_fvu: float | None
    tried: Sequence[Tried]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        tried = [_plain(entry) for entry in self.tried]
        plain = {"place" if name == "hookpoints" else name: value for name, value in asdict(self).items()}
        place = {name: list(value) for name, value in self.hookpoints._asdict().items() if value}
        return {"version": VERSION, **plain, "place": place, "figures": _plain(self.figures), "tried": tried}


def refuse_unverified(source: str, certificate: Certificate) -> None:
    """Raise if the gate did not verify.

    Raises:
        UserError: one sentence with figures and, if there is one, the setting that fits.
    """
    if certificate.verified:
        return
    hookpoints, figures = certificate.hookpoints, certificate.figures
    whose = "these models" if hookpoints.models else "this model"
    remedy = (
        f"with {_flags(certificate.fitting)} it is {certificate.fitting_fvu:.3g}"
        if certificate.fitting
        else f"no other reading fits either: is it made for {whose}?"
    )
    raise UserError(
        f"{source} does not fit {hookpoints.name()}: {certificate.reason} (FVU {figures.fvu:.3g}, L0 "
        f"{figures.l0:.3g}, {figures.unseen_share:.0%} of latents unseen on {figures.n} tokens); {remedy}; "
        "--accept-unverified imports it anyway"
    )


def _plain(values: Figures | Tried) -> dict[str, Any]:
    """As JSON, which has no infinity: a reading can be this wrong."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values._asdict().items()
    }


def _flags(fitting: Mapping[str, Any]) -> str:
    names = [
        f"--{name} {value}" if name in ("hookpoint", "model") else f"--set {name}={value}"
        for name, value in fitting.items()
    ]
    return " ".join(names)


def certificate_rows(certificate: Mapping[str, Any], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of ``dictionary_metrics`` from a certificate as JSON: its figures, FVU of every other reading."""
    fixed = {**ids, "split": "eval", "n": certificate["figures"]["n"], "metric_version": METRIC_VERSION}
    return [{**row, **fixed} for row in _figures(certificate)]


def _figures(certificate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    figures = certificate["figures"]
    control = None
    if certificate["random_fvu"] is not None:
        control = canonical_json({"random": certificate["random_fvu"]})
    for name in ("fvu", "l0", "unseen_share"):
        yield {
            "metric": f"import_{name}",
            "variant": "",
            "value": figures[name],
            "control": control if name == "fvu" else None,
            "note": certificate["reason"],
        }
    seen: set[str] = set()
    for tried in certificate["tried"]:
        variant = f"{tried['setting']}={tried['value']}"
        if variant not in seen:
            seen.add(variant)
            note = f"the same file read otherwise, L0 {tried['l0']:.4g}"
            yield {"metric": "import_fvu", "variant": variant, "value": tried["fvu"], "note": note}
