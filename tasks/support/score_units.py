"""What a scorer works on: the explanations of one dictionary, and the judge's calibration."""

from dataclasses import dataclass

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from tasks.autointerp.scorer import ScorerConfig
from tasks.support.stored import evidence_label


@dataclass(frozen=True)
class ScoreUnit:
    """Explanations of one dictionary by one explainer, and a scorer."""

    config: ScorerConfig
    explained: StageOutcome
    position: int = 0
    """Position of the scorer in the pipeline; the first gives the headline score of an explanation."""
    calibrated: StageOutcome | None = None
    """The calibration of the judge; None for a scorer that asks none, or uncalibrated."""

    @property
    def label(self) -> str:
        facts = self.explained.facts
        return f"{self.config.tag()} of {facts['explainer']} {evidence_label(facts)}"

    @property
    def parents(self) -> list[str]:
        """Fingerprints of what it reads."""
        return [one.fingerprint for one in (self.explained, self.calibrated) if one is not None]

    @property
    def threshold(self) -> float | None:
        """Probability from which an answer of the judge counts as yes, if it was calibrated."""
        return None if self.calibrated is None else self.calibrated.facts["threshold"]


def refuse_at_chance(judge: str, calibrated: StageOutcome) -> None:
    """Refuse a judge that does not tell planted features from other text.

    Raises:
        UserError: with its figures, and what to do.
    """
    if calibrated.facts["reads"] is False:
        raise UserError(
            f"the judge {judge} is at chance: {calibrated.facts['found']}; name an endpoint with another "
            "model in the scorer's field 'endpoint', or set accept_chance: true"
        )
