"""How many examples a property is tried on: few that are always the same, or many that are always new.

`make test` must say the same of the same code, so its profile derives the examples from the test itself. To
look for what nobody thought of is the work of the profile ``search``, which `make faults` names.
"""

from hypothesis import settings

REPEATABLE, SEARCH = "repeatable", "search"
TIMES_MORE = 5
_USUAL = 100


def register_profiles() -> None:
    """Register both, and load the one of `make test`; ``--hypothesis-profile=search`` loads the other.

    Neither has a deadline: a busy machine takes longer for the same example.
    """
    settings.register_profile(REPEATABLE, derandomize=True, database=None, deadline=None, max_examples=_USUAL)
    settings.register_profile(
        SEARCH, derandomize=False, deadline=None, print_blob=True, max_examples=_USUAL * TIMES_MORE
    )
    settings.load_profile(REPEATABLE)


def examples(n: int) -> int:
    """``n`` examples in `make test`, ``TIMES_MORE`` as many in a search. For ``max_examples`` of a test."""
    return n * settings.default.max_examples // _USUAL
