"""Search for the rule that best tells the contexts of a feature from those in which it is silent.

Every candidate is a bit mask over the tokens of all windows, packed 64 tokens to a word, so that
conjunctions and disjunctions of thousands of pairs are a few array operations.
Legend: M rules, W windows, T tokens, K 64-bit words of a window.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.candidates import FIRING_SHARE, candidates
from tasks.autointerp.lexicon.rule import Both, Either, Except, Rule, TokenRule
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Windows

Packed = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]
N_REFINED = 4
"""How many of the best rules are tried with exceptions."""
WIDE_SHARE = 0.95
MAX_COMPLEXITY = 2.5
MAX_TRIED = 16
"""How many exceptions are tried on each."""
LOCAL_WEIGHT = 0.3
"""Weight of telling tokens apart inside a window, beside telling windows apart."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """How far the search goes and what a longer rule must gain."""

    penalty: float = 0.012
    beam: int = 64
    max_values: int = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A rule and how it did on the contexts it was found on."""

    rule: Rule
    value: float
    hit_share: float
    false_share: float


@dataclass(slots=True)
class _Pool:
    """Rules with their masks (M, W, K) and objective values (M,)."""

    rules: list[Rule]
    masks: Packed
    values: Values

    def best(self, n: int) -> list[int]:
        return [int(i) for i in np.argsort(-self.values, kind="stable")[:n]]


class RuleSearch:
    """The search on one feature: ``windows`` with a group per window (0 fires, 1 and 2 do not)."""

    def __init__(self, windows: Windows, group_W: npt.NDArray[Any], limits: SearchLimits) -> None:
        self.windows = windows
        self.limits = limits
        self.positive_W: Bools = group_W == 0
        self.silent_groups: list[Bools] = [group_W == g for g in (1, 2) if (group_W == g).any()]
        self.firing_WT = firing_WT = windows.firing(FIRING_SHARE) & self.positive_W[:, None]
        inside_WT = (windows.token_WT > 0) & self.positive_W[:, None]
        self.firing_WK = pack(firing_WT)
        self.quiet_WK = pack(inside_WT & ~firing_WT)
        self.n_firing = max(1, int(firing_WT.sum()))
        self.n_quiet = max(1, int((inside_WT & ~firing_WT).sum()))

    def run(self) -> Found:
        """The best rule: single, token set, conjunction of up to three, or one of two of these."""
        singles = self._singles()
        pool = self._with(singles, *self._token_sets(singles))
        pairs = self._conjunctions(pool, pool.best(self.limits.beam), pool.best(self.limits.beam))
        triples = self._conjunctions(pairs, pairs.best(8), pool.best(self.limits.beam), pool)
        merged = _merge(pool, pairs, triples, keep=self.limits.beam)
        either = self._disjunctions(merged, merged.best(16))
        final = _merge(merged, either, keep=self.limits.beam)
        final = self._with(final, *self._exceptions(final))
        best = final.best(1)[0]
        answers_W = final.masks[best].any(axis=-1)
        hit = float(answers_W[self.positive_W].mean())
        silent_W = answers_W[~self.positive_W]
        false = float(silent_W.mean()) if len(silent_W) else 0.0
        return Found(final.rules[best], float(final.values[best]), hit, false)

    def _singles(self) -> _Pool:
        rules: list[Rule] = []
        masks: list[Packed] = []
        seen: set[bytes] = set()
        found = candidates(self.windows.take(self.positive_W))
        holds_MWT = np.stack([rule.holds(self.windows) for rule in found])
        for rule, mask in zip(found, pack(holds_MWT), strict=True):
            key = mask.tobytes()
            if key not in seen and mask.any():
                seen.add(key)
                rules.append(rule)
                masks.append(mask)
        return self._pool(rules, np.stack(masks))

    def _pool(self, rules: list[Rule], masks: Packed) -> _Pool:
        cost = self.limits.penalty * np.asarray([rule.complexity for rule in rules])
        return _Pool(rules, masks, self.objective(masks) - cost)

    def objective(self, masks: Packed) -> Values:
        """Balanced accuracy over windows, shrunk towards a half, and over the tokens of firing windows.

        A positive window counts half if the rule holds at some token of it, and half if it holds at one
        that fires; the silent groups count alike. Shares of windows are (hits + 1/2) / (n + 1).
        """
        any_MW = np.asarray(masks.any(axis=-1), bool)
        local_MW = np.asarray((masks & self.firing_WK).any(axis=-1), bool)
        hit_M = (_share(any_MW, self.positive_W) + _share(local_MW, self.positive_W)) / 2
        firing_M = _count(masks & self.firing_WK) / self.n_firing
        tokens_M = (firing_M + 1 - _count(masks & self.quiet_WK) / self.n_quiet) / 2
        if not self.silent_groups:
            return np.asarray((hit_M + tokens_M) / 2, np.float64)
        silent_M = np.mean([1 - _share(any_MW, group) for group in self.silent_groups], axis=0)
        balanced_M = (hit_M + silent_M) / 2
        return np.asarray((1 - LOCAL_WEIGHT) * balanced_M + LOCAL_WEIGHT * tokens_M, np.float64)

    def _token_sets(self, singles: _Pool) -> tuple[list[Rule], list[Packed]]:
        """For each place and test, the set of values grown greedily while the objective gains."""
        families: dict[tuple[str, str], list[int]] = {}
        for i, rule in enumerate(singles.rules):
            if isinstance(rule, TokenRule) and rule.kind in ("is", "word", "starts", "ends"):
                families.setdefault((rule.kind, rule.place), []).append(i)
        rules: list[Rule] = []
        masks: list[Packed] = []
        for members in families.values():
            first = max(members, key=lambda i: float(singles.values[i]))
            others = [i for i in members if i != first]
            start = (singles.masks[first], float(singles.values[first]))
            cost = singles.rules[first].complexity
            chosen, mask = self._grow(start, cost, singles.masks[others], np.bitwise_or)
            if chosen:
                parts = [singles.rules[i] for i in (first, *(others[k] for k in chosen))]
                rules.append(_token_set([part for part in parts if isinstance(part, TokenRule)]))
                masks.append(mask)
        return rules, masks

    def _exceptions(self, pool: _Pool) -> tuple[list[Rule], list[Packed]]:
        """The best rules without the tokens they most often hold at where the feature is silent."""
        rules: list[Rule] = []
        masks: list[Packed] = []
        token_WT = self.windows.token_WT
        for i in self._refinable(pool):
            rule = pool.rules[i]
            wrong_WT = rule.holds(self.windows) & ~self.firing_WT
            counts = np.bincount(token_WT[wrong_WT], minlength=1)
            tokens = [int(t) for t in np.argsort(-counts, kind="stable")[:MAX_TRIED] if counts[t] > 1]
            if not tokens:
                continue
            kept = pack(np.stack([token_WT != t for t in tokens]))
            start = (pool.masks[i], float(pool.values[i]))
            chosen, mask = self._grow(start, rule.complexity + 0.5, kept, np.bitwise_and)
            if chosen:
                texts = self.windows.vocabulary.texts
                rules.append(Except(rule, tuple(texts[tokens[k]] for k in chosen)))
                masks.append(mask)
        return rules, masks

    def _refinable(self, pool: _Pool) -> list[int]:
        """The best rules, and the best of those that hold in nearly every firing window."""
        any_MW = np.asarray(pool.masks.any(axis=-1), bool)
        hit_M = any_MW[:, self.positive_W].mean(axis=1)
        order = pool.best(len(pool.rules))
        wide = [i for i in order if hit_M[i] >= WIDE_SHARE and pool.rules[i].complexity <= MAX_COMPLEXITY]
        return list(dict.fromkeys((*order[:N_REFINED], *wide[:N_REFINED])))

    def _grow(
        self, start: tuple[Packed, float], complexity: float, parts: Packed, combine: np.ufunc
    ) -> tuple[list[int], Packed]:
        """Add the part that gains most to a mask, again and again, while the objective gains."""
        mask, value = start
        chosen: list[int] = []
        left = list(range(len(parts)))
        while left and len(chosen) < self.limits.max_values - 1:
            grown: Packed = combine(mask, parts[left])
            cost = self.limits.penalty * (complexity + 0.25 * (len(chosen) + 1))
            values = self.objective(grown) - cost
            best = int(np.argmax(values))
            if values[best] <= value:
                break
            mask, value = grown[best], float(values[best])
            chosen.append(left.pop(best))
        return chosen, mask

    def _with(self, pool: _Pool, rules: list[Rule], masks: list[Packed]) -> _Pool:
        if not rules:
            return pool
        return _merge(pool, self._pool(rules, np.stack(masks)))

    def _conjunctions(self, left: _Pool, a: list[int], b: list[int], right: _Pool | None = None) -> _Pool:
        other = right or left
        a, b = _all_pairs(a, b, distinct=right is None)
        masks = left.masks[a] & other.masks[b]
        cost = self.limits.penalty * np.asarray(
            [left.rules[i].complexity + other.rules[j].complexity for i, j in zip(a, b, strict=True)]
        )
        values = self.objective(masks) - cost
        keep = np.argsort(-values, kind="stable")[: self.limits.beam]
        rules: list[Rule] = [Both((*_parts(left.rules[a[k]]), *_parts(other.rules[b[k]]))) for k in keep]
        return _Pool(rules, masks[keep], values[keep])

    def _disjunctions(self, pool: _Pool, best: list[int]) -> _Pool:
        a, b = _all_pairs(best, best, distinct=True)
        rules: list[Rule] = [Either((pool.rules[i], pool.rules[j])) for i, j in zip(a, b, strict=True)]
        return self._pool(rules, pool.masks[a] | pool.masks[b])


def pack(mask: Bools) -> Packed:
    """Bits of the last axis, 64 to a word, the rest zero."""
    n_words = -(-mask.shape[-1] // 64)
    packed = np.zeros((*mask.shape[:-1], n_words * 8), np.uint8)
    bits = np.packbits(mask, axis=-1)
    packed[..., : bits.shape[-1]] = bits
    return packed.view(np.uint64)


def _count(masks: Packed) -> Values:
    """Bits set in each mask (M, W, K)."""
    return np.asarray(np.bitwise_count(masks).sum(axis=(-1, -2)), np.float64)


def _share(answers_MW: Bools, group_W: Bools) -> Values:
    return np.asarray((answers_MW[:, group_W].sum(axis=1) + 0.5) / (int(group_W.sum()) + 1), np.float64)


def _token_set(parts: list[TokenRule]) -> TokenRule:
    return TokenRule(parts[0].kind, tuple(p.values[0] for p in parts), parts[0].place)


def _parts(rule: Rule) -> tuple[Rule, ...]:
    return rule.parts if isinstance(rule, Both) else (rule,)


def _all_pairs(a: list[int], b: list[int], *, distinct: bool) -> tuple[list[int], list[int]]:
    pairs = [(i, j) for i in a for j in b if not distinct or i < j]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _merge(*pools: _Pool, keep: int | None = None) -> _Pool:
    rules = [rule for pool in pools for rule in pool.rules]
    merged = _Pool(rules, np.concatenate([p.masks for p in pools]), np.concatenate([p.values for p in pools]))
    if keep is None or len(rules) <= keep:
        return merged
    best = merged.best(keep)
    return _Pool([rules[i] for i in best], merged.masks[best], merged.values[best])
