"""How often a steady metric raises an alarm, and which changes do."""

import numpy as np
import pytest

from tasks.measures.drift import ABSOLUTE_FLOOR, FACTORS, FEWEST, MOST, expectation

NIGHTS = 4_000


def share_out(n: int, shift: float = 0.0, wild: float = 0.0, seed: int = 0) -> float:
    """Share of nights that are out after ``n`` steady ones, of noise far above the floor."""
    rng = np.random.default_rng(seed)
    values_NT = rng.standard_normal((NIGHTS, n + 1))
    values_NT[:, 0] += wild
    values_NT[:, -1] += shift
    out = 0
    for *past, value in values_NT.tolist():
        found = expectation(past)
        assert found is not None
        out += found.is_out(value)
    return out / NIGHTS


def test_there_is_a_factor_for_every_number_of_nights() -> None:
    assert len(FACTORS) == MOST - FEWEST + 1


@pytest.mark.parametrize("first", [5, 9, 13, 17])
def test_one_in_a_hundred_steady_nights_is_out(first: int) -> None:
    """Four numbers of nights at once: 16,000 nights, so 1 % is known to 0.08 %."""
    shares = [share_out(n, seed=n) for n in range(first, first + 4)]
    assert 0.007 < float(np.mean(shares)) < 0.013


@pytest.mark.parametrize(("n", "shift"), [(5, 60.0), (10, 10.0), (20, 6.0)])
def test_a_change_of_many_times_the_noise_is_out(n: int, shift: float) -> None:
    assert share_out(n, shift) > 0.95
    assert share_out(n, -shift) > 0.95


def test_one_wild_night_hides_no_change() -> None:
    assert share_out(10, shift=12.0, wild=1_000.0) > 0.9


def test_less_than_the_floor_is_none_of_a_constant_metric() -> None:
    found = expectation([0.5] * 8)
    assert found is not None
    assert (found.expected, found.tolerance) == (0.5, 0.01)
    assert (found.is_out(0.505), found.is_out(0.52)) == (False, True)
    zero = expectation([0.0] * 8)
    assert zero is not None
    assert zero.tolerance == ABSOLUTE_FLOOR


def test_fewer_than_five_nights_expect_nothing() -> None:
    assert expectation([0.1, 0.2, 0.3, 0.4]) is None


def test_the_range_follows_a_lasting_change() -> None:
    rng = np.random.default_rng(0)
    values = [*(1 + 0.01 * rng.standard_normal(30)), *(2 + 0.01 * rng.standard_normal(30))]
    out = [n for n in range(5, 60) if (found := expectation(values[:n])) and found.is_out(values[n])]
    assert set(range(30, 40)) <= set(out)
    assert [n for n in out if n > 45] == []
