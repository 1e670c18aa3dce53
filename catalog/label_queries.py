"""Named queries about labels: explanations, their scores, judged items and floors."""

from collections.abc import Sequence

from catalog.query import Query, named


def labels(*, dictionary_ids: Sequence[str], feature_indices: Sequence[int]) -> Query:
    """Best labels of some features: one dictionary and one index for each, in two lists of equal length."""
    return named("labels", locals())


def labelled_features(*, dictionary_id: str, activation_set_id: str) -> Query:
    """The features of a dictionary on one activation set whose label beats chance."""
    return named("labelled_features", locals())


def feature_explanations(
    *, dictionary_id: str, feature_index: int, activation_set_id: str | None = None
) -> Query:
    """Every explanation of a feature, newest first, on one activation set or on all."""
    return named("feature_explanations", locals())


def feature_scores(*, dictionary_id: str, feature_index: int) -> Query:
    """The newest scores of every explanation of a feature, by scorer and judge."""
    return named("feature_scores", locals())


def feature_judgements(*, dictionary_id: str, feature_index: int, explanation_id: str) -> Query:
    """The judged items of one explanation, of its newest scores."""
    return named("feature_judgements", locals())


def calibration_texts(*, corpus_id: str, limit: int = 400) -> Query:
    """The first documents of a corpus with the beginning of their texts, the same as a corpus grows."""
    return named("calibration_texts", locals())


def floor_sources(*, dictionary_id: str, activation_set_id: str) -> Query:
    """The scores of a dictionary on a set and of its floors: one row per unit of work that scored."""
    return named("floor_sources", locals())


def measured_floors(
    *,
    dictionary_id: str,
    activation_set_id: str,
    floors: Sequence[str],
    floor_dictionaries: Sequence[str],
    floor_sets: Sequence[str],
) -> Query:
    """What the scores of a dictionary on a set reach without a good label, computed from the scores.

    Args:
        dictionary_id: The dictionary.
        activation_set_id: A set on which its labels were scored.
        floors: Floors that are other dictionaries, the best of each kind first (`floor_sources`).
        floor_dictionaries: The dictionary of each.
        floor_sets: The set of each.
    """
    return named("measured_floors", locals())
