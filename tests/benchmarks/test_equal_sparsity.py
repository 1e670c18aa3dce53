"""The search for a setting meets its target on the laws that methods follow."""

import math
from collections.abc import Callable

import pytest

from tests.benchmarks.equal_sparsity import Knob, Point, closest, next_setting

LAWS: dict[str, tuple[Knob, Callable[[float], float]]] = {
    "exact": (Knob("k", 1, 1, whole=True), lambda k: k),
    "penalty": (Knob("l1_coefficient", 10, -1), lambda c: 30 * c**-1.7),
    "steep penalty": (Knob("l1_coefficient", 1, -1), lambda c: 400 * math.exp(-3 * c)),
    "frequency": (Knob("highest_frequency", 0.01, 1), lambda p: 300 * p**0.8),
}


@pytest.mark.parametrize("law", LAWS)
def test_three_targets_are_met_in_few_trials(law: str) -> None:
    knob, l0 = LAWS[law]
    points: list[Point] = []
    n_trials = 0
    for target in (4.0, 8.0, 16.0):
        for _ in range(8):
            if points and abs(math.log(closest(points, target).l0 / target)) <= 0.05:
                break
            setting = next_setting(knob, points, target)
            points.append(Point(setting, l0(setting)))
            n_trials += 1
        assert closest(points, target).l0 == pytest.approx(target, rel=0.06)
    assert n_trials <= 12


def test_a_setting_without_active_latents_turns_the_knob_back() -> None:
    knob = Knob("l1_coefficient", 1, -1)
    assert next_setting(knob, [Point(5.0, 0.0)], 8.0) < 5.0
