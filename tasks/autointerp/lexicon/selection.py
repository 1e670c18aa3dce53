"""Which rule to state: the shortest that is as good as the best, without parts that add nothing.

A gain counts if documents that were left out show it too: what only one document gives is noise.
Legend: M rules, D documents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.autointerp.lexicon.objective import Objective, Packed, Values
from tasks.autointerp.lexicon.rule import Both, Either, Except, JoinedRule, Rule, TokenRule

N_ERRORS = 1.0
"""The rule of one standard error: a shorter rule is as good as the best if it is no further below it."""
N_ERRORS_OF_NOTHING = 3.5
"""Gain over no rule, in standard errors over windows: where firing tokens are drawn at random, the best of
all rules reaches 3 in 5 % of features."""
N_ERRORS_LEFT_OUT = 2.0
"""The same without the document that gives most: windows of one document are not independent."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A rule with its mask (W, K), and whether it separates better than no rule in documents left out."""

    rule: Rule
    mask: Packed
    holds_up: bool


def left_out_gain(gain_MD: Values) -> Values:
    """The gain (M,) in documents left out: what each gives, if the others without it show a gain too."""
    total_M1 = gain_MD.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total_M1 - gain_MD > 0, gain_MD, 0).sum(axis=1), np.float64)


def standard_error(gain_MD: Values) -> Values:
    """The standard error (M,) of a sum over documents."""
    n = gain_MD.shape[1]
    if n < 2:
        return np.full(len(gain_MD), np.inf)
    return np.asarray(np.sqrt(n) * gain_MD.std(axis=1, ddof=1), np.float64)


def choose(
    rules: Sequence[Rule],
    masks: Packed,
    values: Values,
    objective: Objective,
    mask_of: Callable[[Rule], Packed],
    penalty: float,
) -> Choice:
    """The plainest of the rules within one standard error of the best by ``values`` (M,), then pruned.

    Args:
        mask_of: Evaluates a rule that is not among them.
        penalty: Value that each part of a rule must add.
    """
    added_MD = objective.by_document(masks)
    best = int(np.argmax(values))
    behind_MD = added_MD[best] - added_MD
    is_close_M = behind_MD.sum(axis=1) <= N_ERRORS * standard_error(behind_MD)
    is_close_M[best] = True
    complexity_M = np.asarray([rule.complexity for rule in rules])
    order = np.lexsort((-values, complexity_M, ~is_close_M))
    rule, mask = _pruned(rules[order[0]], masks[order[0]], objective, mask_of, penalty)
    return Choice(rule, mask, _holds_up(mask, objective, penalty * rule.complexity))


def _holds_up(mask: Packed, objective: Objective, cost: float) -> bool:
    """Whether a rule gains more than it costs, more than noise, and not in one document alone."""
    error = objective.error(mask)
    gain_MD = objective.by_document(mask[None])
    gain = float(gain_MD.sum())
    left_out = gain - float(gain_MD.max(initial=0.0))
    is_gain = float(left_out_gain(gain_MD)[0]) > cost
    return is_gain and gain > N_ERRORS_OF_NOTHING * error and left_out > N_ERRORS_LEFT_OUT * error


def _pruned(
    rule: Rule, mask: Packed, objective: Objective, mask_of: Callable[[Rule], Packed], penalty: float
) -> tuple[Rule, Packed]:
    """Drop the value or part that adds least, as long as it adds less than it costs in documents left out."""
    while True:
        shorter = list(shortened(rule))
        if not shorter:
            return rule, mask
        masks = np.stack([mask_of(one) for one in shorter])
        lost_MD = objective.by_document(mask[None]) - objective.by_document(masks)
        saved_M = penalty * np.asarray([rule.complexity - one.complexity for one in shorter])
        net_M = left_out_gain(lost_MD) - saved_M
        least = int(np.argmin(net_M))
        if net_M[least] > 0:
            return rule, mask
        rule, mask = shorter[least], masks[least]


def shortened(rule: Rule) -> Iterator[Rule]:
    """The rule without one of its values or parts, each in turn."""
    if isinstance(rule, TokenRule | JoinedRule) and len(rule.values) > 1:
        for i in range(len(rule.values)):
            yield replace(rule, values=rule.values[:i] + rule.values[i + 1 :])
    elif isinstance(rule, Except):
        for i in range(len(rule.values)):
            left = rule.values[:i] + rule.values[i + 1 :]
            yield Except(rule.rule, left) if left else rule.rule
        yield from (Except(one, rule.values) for one in shortened(rule.rule))
    elif isinstance(rule, Both | Either):
        kind = type(rule)
        for i, part in enumerate(rule.parts):
            others = rule.parts[:i] + rule.parts[i + 1 :]
            yield others[0] if len(others) == 1 else kind(others)
            for one in shortened(part):
                yield kind((*rule.parts[:i], one, *rule.parts[i + 1 :]))
