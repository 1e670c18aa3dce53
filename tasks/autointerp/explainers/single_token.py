"""The floor of every label: the one token whose presence separates firing from silent contexts best."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from catalog.ids import digest
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig
from tasks.autointerp.lexicon.evidence import token_shares
from tasks.autointerp.lexicon.objective import Objective, pack
from tasks.autointerp.lexicon.rule import GRAMMAR_VERSION, Constant, Rule, TokenRule
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.lexicon.wording import in_words
from tasks.autointerp.records import FeatureEvidence

SEARCH_VERSION = 1
MOST_TRIED = 64
"""Tokens to evaluate; beyond them the presence differs by less than the noise of some hundred contexts."""


class SingleTokenConfig(ExplainerConfig):
    """Names one token, so that a label that says more can be compared with it."""

    explainer: Literal["single_token"] = "single_token"


@EXPLAINERS.register("single_token")
class SingleTokenExplainer(Explainer):
    """Tries the tokens of the firing contexts, one by one, and names the best; its rule can be scored."""

    purpose = "names the one token that separates best, a floor for other labels"
    config: SingleTokenConfig

    @classmethod
    def prompt_digest(cls, config: SingleTokenConfig) -> str:
        return digest({"grammar": GRAMMAR_VERSION, "single_token": SEARCH_VERSION})

    async def write(self, evidence: FeatureEvidence) -> Draft:
        windows, group_W = evidence.contrasted()
        firing = windows.take(group_W == 0)
        rules: list[Rule] = [TokenRule("is", (text,)) for text in _candidates(windows, group_W == 0)]
        rules = rules or [Constant(False)]
        values = Objective(windows, group_W)(np.stack([pack(rule.holds(windows)) for rule in rules]))
        best = rules[int(np.argmax(values))]
        shares = tuple(share._asdict() for share in token_shares(best, firing))
        return Draft(in_words(best), predicate=best.to_json(), token_shares=shares)


def _candidates(windows: Windows, is_firing_W: Bools) -> list[str]:
    """Texts of the tokens whose presence tells firing from silent contexts apart best, at most `MOST_TRIED`.

    The activation on a token counts like one more presence, so that the tokens on which the feature fires are
    tried although silent contexts have them too.
    """
    texts, special_V = windows.vocabulary.texts, windows.vocabulary.special_V
    n_firing, n_silent = (max(1, int(is_W.sum())) for is_W in (is_firing_W, ~is_firing_W))
    row_P, token_P = np.divmod(np.unique(_pairs(windows)), len(texts))
    sign_P = np.where(is_firing_W[row_P], 1 / n_firing, -1 / n_silent)
    activation_WT = np.where(is_firing_W[:, None], windows.activation_WT, 0)
    mass_V = np.bincount(windows.token_WT.ravel(), activation_WT.ravel(), minlength=len(texts))
    gain_V = np.bincount(token_P, sign_P, minlength=len(texts)) + mass_V / (mass_V.sum() or 1.0)
    present = np.unique(token_P[is_firing_W[row_P]]).tolist()
    tokens = [token for token in present if texts[token] and not special_V[token]]
    tokens.sort(key=lambda token: (-gain_V[token], texts[token]))
    return [texts[token] for token in tokens[:MOST_TRIED]]


def _pairs(windows: Windows) -> npt.NDArray[np.int64]:
    """Window and token of every position, as window * size of the vocabulary + token; without padding."""
    rows, columns = np.nonzero(windows.token_WT > 0)
    return rows.astype(np.int64) * len(windows.vocabulary) + windows.token_WT[rows, columns]
