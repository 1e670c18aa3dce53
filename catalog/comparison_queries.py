"""The named queries of comparisons: two dictionaries, two features, two sets of documents."""

from collections.abc import Sequence

from catalog.query import Query, named


def common_contexts(
    *,
    dictionary_a: str,
    feature_a: int,
    dictionary_b: str,
    feature_b: int,
    files: Sequence[str] | None = None,
) -> Query:
    """Positions where the mined contexts of two features overlap; ``files`` as in ``feature_examples``."""
    return named("common_contexts", locals())


def pair(*, dictionary_a: str, feature_a: int, dictionary_b: str, feature_b: int) -> Query:
    """Matching results for two features."""
    return named("pair", locals())


def first_pair() -> Query:
    """The two dictionaries with the most mutual matches, with which the page of comparisons begins."""
    return named("first_pair", locals())


def compare_rates(*, dictionary_a: str, dictionary_b: str) -> Query:
    """Share of firing features of ``dictionary_a`` with a mutual match in the other, by density decade."""
    return named("compare_rates", locals())


def match_rates(*, dictionary_a: str, dictionary_b: str) -> Query:
    """Share of features called the same, by method and direction, with that of random directions."""
    return named("match_rates", locals())


def compare_scores(*, dictionary_a: str, dictionary_b: str) -> Query:
    """Distribution of the scores of mutual matches."""
    return named("compare_scores", locals())


def compare_matches(*, dictionary_a: str, dictionary_b: str) -> Query:
    """The strongest mutual matches, with labels."""
    return named("compare_matches", locals())


def compare_unmatched(*, dictionary_a: str, dictionary_b: str) -> Query:
    """Firing features of ``dictionary_a`` without a mutual match in the other."""
    return named("compare_unmatched", locals())


def comparisons() -> Query:
    """Comparisons of what features do on two sets or two groups of documents, with headline figures."""
    return named("comparisons", locals())


def shifts(*, dictionary_id: str, set_a: str, set_b: str, comparison: str, limit: int = 50) -> Query:
    """The features of one comparison, those that changed most surely first."""
    return named("shifts", locals())


def shift_distribution(*, dictionary_id: str, set_a: str, set_b: str, comparison: str) -> Query:
    """Histograms of correlation, overlap and effect over the features of one comparison."""
    return named("shift_distribution", locals())


def shift_contexts(
    *,
    dictionary_id: str,
    set_a: str,
    set_b: str,
    feature_indices: Sequence[int],
    label: str | None = None,
    value_a: str | None = None,
    value_b: str | None = None,
    newest: bool = False,
) -> Query:
    """The strongest context of some features on both sides of a comparison.

    With ``label`` only documents with ``value_a`` count on side a, and those with ``value_b`` on side b. With
    ``newest`` the documents that came last into a growing corpus count on side b, all earlier ones on side a.
    """
    return named("shift_contexts", locals())
