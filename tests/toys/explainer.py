"""The smallest explainer: the token on which the feature fires most."""

from typing import Literal

from catalog.ids import digest
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig
from tasks.autointerp.records import FeatureEvidence


class ToyExplainerConfig(ExplainerConfig):
    """No setting of its own."""

    explainer: Literal["toy_explainer"] = "toy_explainer"


@EXPLAINERS.register("toy_explainer")
class ToyExplainer(Explainer):
    """Looks at one context."""

    config: ToyExplainerConfig
    purpose = "names the token on which the feature fires most"

    @classmethod
    def prompt_digest(cls, config: ToyExplainerConfig) -> str:
        return digest("toy_explainer 1")

    async def write(self, evidence: FeatureEvidence) -> Draft:
        example = evidence.example(int(evidence.rows("explain", evidence.firing_bands)[0]))
        return Draft(f"the token {example.tokens[example.peak_position].strip()}")
