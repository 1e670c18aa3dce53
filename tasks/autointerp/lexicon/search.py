"""Search for the rule that best separates the contexts of a feature from those in which it is silent.

Candidates are singles, token sets grown greedily, conjunctions of up to three, disjunctions of two of all
these, and the best of them with exceptions; a longer rule must gain a penalty for each further part.
``selection.py`` takes the plainest of the best and drops what adds nothing.
Legend as in ``objective.py``.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.candidates import candidates
from tasks.autointerp.lexicon.objective import Objective, Packed, Values, pack
from tasks.autointerp.lexicon.places import Place
from tasks.autointerp.lexicon.rule import (
    VALUE_COST,
    Both,
    Constant,
    Either,
    Except,
    JoinedRule,
    Rule,
    TokenRule,
    value_cost,
)
from tasks.autointerp.lexicon.selection import choose, left_out_gain
from tasks.autointerp.lexicon.windows import Windows

MIN_DOCUMENTS = 2
"""A value that fires in one document may be about anything else in it."""
N_REFINED = 4
"""Number of the best rules to try with exceptions, and of the best wide ones."""
WIDE_SHARE = 0.95
"""A rule with exceptions must hold nearly everywhere first; 5 % may be outliers."""
MAX_WIDE_COMPLEXITY = 2.5
"""A simple rule with up to three further tokens."""
MAX_TRIED = 16
"""Number of exceptions to try on each."""
N_EXTENDED = 8
"""Number of pairs to extend to triples."""
N_DISJOINED = 16
"""Number of rules to join with each other by "or"."""
EXCEPTION_COST = 0.5
"""Half of a rule: "except" adds a clause, not a second rule."""
SET_KINDS = ("is", "word", "starts", "ends")


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """The extent of the search, and the gain that a longer rule must bring."""

    penalty: float = 0.012
    beam: int = 64
    max_values: int = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A rule and its result on the contexts on which it was found."""

    rule: Rule
    holds_up: bool
    """Whether it separates better than no rule in documents left out."""
    hit_share: float
    false_share: float
    mass_share: float
    """Share of the activation on tokens at which the rule holds."""


class Costs(NamedTuple):
    """Complexity that each part adds to a rule, and what the first one adds to it."""

    each: float
    first: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pool:
    """Rules with their masks (M, W, K), complexities and penalised values (M,)."""

    rules: list[Rule]
    masks: Packed
    complexity: Values
    values: Values

    def best(self, n: int) -> npt.NDArray[np.intp]:
        return np.argsort(-self.values, kind="stable")[:n]

    def take(self, chosen: npt.NDArray[np.intp]) -> "_Pool":
        rules = [self.rules[i] for i in chosen]
        return _Pool(rules, self.masks[chosen], self.complexity[chosen], self.values[chosen])

    def joined(self, *others: "_Pool") -> "_Pool":
        pools = (self, *others)
        return _Pool(
            [rule for pool in pools for rule in pool.rules],
            np.concatenate([pool.masks for pool in pools]),
            np.concatenate([pool.complexity for pool in pools]),
            np.concatenate([pool.values for pool in pools]),
        )


class RuleSearch:
    """The search on one feature: ``windows`` with a group per window (0 fires, 1 and 2 do not)."""

    def __init__(self, windows: Windows, group_W: npt.NDArray[Any], limits: SearchLimits) -> None:
        self.windows = windows
        self.limits = limits
        self.objective = Objective(windows, group_W)

    def run(self) -> Found:
        """The best rule of all kinds."""
        beam = self.limits.beam
        singles = self._singles()
        pool = singles.joined(self._token_sets(singles))
        strong = pool.take(pool.best(beam))
        pairs = self._conjunctions(strong, strong, *np.triu_indices(len(strong.rules), 1))
        few = pairs.take(pairs.best(N_EXTENDED))
        grid = np.indices((len(few.rules), len(strong.rules))).reshape(2, -1)
        triples = self._conjunctions(few, strong, grid[0], grid[1])
        plain = pool.joined(pairs, triples)
        final = plain.joined(self._disjunctions(plain.take(plain.best(N_DISJOINED))))
        final = final.take(final.best(beam))
        final = final.joined(self._exceptions(final))
        return self._found(final)

    def _found(self, pool: _Pool) -> Found:
        def mask_of(rule: Rule) -> Packed:
            return pack(rule.holds(self.windows))

        if not pool.rules:
            nothing = Constant(False)
            return Found(nothing, False, *self.objective.shares(mask_of(nothing)), 0.0)
        choice = choose(pool.rules, pool.masks, pool.values, self.objective, mask_of, self.limits.penalty)
        mass_WT = np.where(self.objective.is_firing_W[:, None], self.windows.activation_WT, 0)
        mass = float(mass_WT[choice.rule.holds(self.windows)].sum()) / (float(mass_WT.sum()) or 1.0)
        return Found(choice.rule, choice.holds_up, *self.objective.shares(choice.mask), mass)

    def _pool(self, rules: list[Rule], masks: Packed) -> _Pool:
        complexity = np.asarray([rule.complexity for rule in rules], np.float64)
        return _Pool(rules, masks, complexity, self.objective(masks) - self.limits.penalty * complexity)

    def _pool_of(self, found: list[tuple[Rule, Packed]]) -> _Pool:
        none = np.empty((0, *self.objective.firing_WK.shape), np.uint64)
        return self._pool([r for r, _ in found], np.stack([m for _, m in found]) if found else none)

    def _singles(self) -> _Pool:
        """Simple rules that hold at firing tokens of two documents or more, each set of tokens once."""
        found = candidates(self.windows.take(self.objective.is_firing_W))
        masks = pack(np.stack([rule.holds(self.windows) for rule in found]))
        distinct: dict[bytes, tuple[Rule, Packed]] = {}
        is_supported_M = self.objective.n_supporting(masks) >= MIN_DOCUMENTS
        for rule, mask, is_supported in zip(found, masks, is_supported_M.tolist(), strict=True):
            if is_supported:
                distinct.setdefault(mask.tobytes(), (rule, mask))
        return self._pool_of(list(distinct.values()))

    def _token_sets(self, singles: _Pool) -> _Pool:
        """For each position and test, the set of values grown greedily while the objective increases."""
        families: dict[tuple[str, Place], list[int]] = {}
        for i, rule in enumerate(singles.rules):
            if isinstance(rule, TokenRule) and rule.kind in SET_KINDS:
                families.setdefault((rule.kind, rule.place), []).append(i)
            elif isinstance(rule, JoinedRule):
                families.setdefault(("joined", "here"), []).append(i)
        found: list[tuple[Rule, Packed]] = []
        for (_, place), members in families.items():
            first = max(members, key=lambda i: float(singles.values[i]))
            others = [i for i in members if i != first]
            costs = Costs(value_cost(place))
            chosen, mask = self._grow(singles.masks[first], costs, singles.masks[others], np.bitwise_or)
            parts = [singles.rules[i] for i in (first, *(others[k] for k in chosen))]
            if chosen:
                found.append((_value_set(parts), mask))
        return self._pool_of(found)

    def _exceptions(self, pool: _Pool) -> _Pool:
        """The best rules without the tokens at which they most often hold where the feature is silent."""
        found: list[tuple[Rule, Packed]] = []
        token_WT, vocabulary = self.windows.token_WT, self.windows.vocabulary
        texts = vocabulary.texts
        named_V = np.fromiter(map(bool, texts), bool, len(texts)) & ~vocabulary.special_V
        for i in self._refinable(pool):
            wrong_WT = pool.rules[i].holds(self.windows) & ~self.objective.firing_WT
            counts = np.bincount(token_WT[wrong_WT], minlength=1)
            tokens = [
                int(t) for t in np.argsort(-counts, kind="stable")[:MAX_TRIED] if counts[t] > 1 and named_V[t]
            ]
            if not tokens:
                continue
            kept = pack(np.stack([token_WT != t for t in tokens]))
            costs = Costs(VALUE_COST, EXCEPTION_COST)
            chosen, mask = self._grow(pool.masks[i], costs, kept, np.bitwise_and)
            if chosen:
                found.append((Except(pool.rules[i], tuple(texts[tokens[k]] for k in chosen)), mask))
        return self._pool_of(found)

    def _refinable(self, pool: _Pool) -> list[int]:
        """The best rules, and the best plain ones that hold in nearly every firing window; no lists.

        A list has the tokens that it needs.
        """
        order = [i for i in pool.best(len(pool.rules)).tolist() if not _is_list(pool.rules[i])]
        plain = [i for i in order if pool.complexity[i] <= MAX_WIDE_COMPLEXITY]
        wide = [i for i in plain if self.objective.shares(pool.masks[i])[0] >= WIDE_SHARE]
        return list(dict.fromkeys((*order[:N_REFINED], *wide[:N_REFINED])))

    def _grow(self, mask: Packed, costs: Costs, parts: Packed, combine: np.ufunc) -> tuple[list[int], Packed]:
        """Repeatedly add the part that gains most in documents left out, while the gain exceeds its cost."""
        chosen: list[int] = []
        left = list(range(len(parts)))
        before_D = self.objective.by_document(mask[None])[0]
        while left and len(chosen) < self.limits.max_values - 1:
            grown: Packed = combine(mask, parts[left])
            cost = self.limits.penalty * (costs.each + (0 if chosen else costs.first))
            after_MD = self.objective.by_document(grown)
            gains = left_out_gain(after_MD - before_D)
            best = int(np.argmax(gains))
            if gains[best] <= cost:
                break
            mask, before_D = grown[best], after_MD[best]
            chosen.append(left.pop(best))
        return chosen, mask

    def _conjunctions(
        self, left: _Pool, right: _Pool, a: npt.NDArray[np.intp], b: npt.NDArray[np.intp]
    ) -> _Pool:
        """The best of the rules ``left[a] and right[b]``."""
        masks = left.masks[a] & right.masks[b]
        complexity = left.complexity[a] + right.complexity[b]
        values = self.objective(masks) - self.limits.penalty * complexity
        keep = np.argsort(-values, kind="stable")[: self.limits.beam]
        pairs = zip(a[keep], b[keep], strict=True)
        rules: list[Rule] = [Both((*_parts(left.rules[i]), *_parts(right.rules[j]))) for i, j in pairs]
        return _Pool(rules, masks[keep], complexity[keep], values[keep])

    def _disjunctions(self, pool: _Pool) -> _Pool:
        """Every two of the rules joined by "or"."""
        a, b = np.triu_indices(len(pool.rules), 1)
        rules: list[Rule] = [Either((pool.rules[i], pool.rules[j])) for i, j in zip(a, b, strict=True)]
        return self._pool(rules, pool.masks[a] | pool.masks[b])


def _value_set(parts: list[Rule]) -> Rule:
    """One rule with the values of all parts, which differ in nothing else."""
    first = parts[0]
    assert isinstance(first, TokenRule | JoinedRule)
    values = tuple(part.values[0] for part in parts if isinstance(part, TokenRule | JoinedRule))
    return replace(first, values=values)


def _is_list(rule: Rule) -> bool:
    if isinstance(rule, Either | Both):
        return any(map(_is_list, rule.parts))
    return isinstance(rule, JoinedRule) or (
        isinstance(rule, TokenRule) and rule.kind in ("is", "word") and rule.place == "here"
    )


def _parts(rule: Rule) -> tuple[Rule, ...]:
    return rule.parts if isinstance(rule, Both) else (rule,)
