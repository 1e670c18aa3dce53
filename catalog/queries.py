"""The named queries: one function for each file in ``sql/``, for programs and pages.

A function returns a ``Query``: ``.read(connection)`` runs it on a connection of ``catalog.connection``, and
``.statement`` is the SQL text with the values in it. A file of queries for one page has its own module; its
functions are imported here, where callers find all of them.
"""

from collections.abc import Sequence
from typing import Literal

from catalog.query import Query, named

# isort: off
from catalog.comparison_queries import (
    common_contexts as common_contexts,
    compare_matches as compare_matches,
    compare_rates as compare_rates,
    compare_scores as compare_scores,
    compare_unmatched as compare_unmatched,
    comparisons as comparisons,
    first_pair as first_pair,
    match_rates as match_rates,
    pair as pair,
    shift_contexts as shift_contexts,
    shift_distribution as shift_distribution,
    shifts as shifts,
)
from catalog.document_queries import (
    corpora as corpora,
    corpus_settings as corpus_settings,
    documents_named as documents_named,
    forgotten_before as forgotten_before,
    nearest_documents as nearest_documents,
    same_text as same_text,
)
from catalog.label_queries import (
    calibration_texts as calibration_texts,
    feature_explanations as feature_explanations,
    feature_judgements as feature_judgements,
    feature_scores as feature_scores,
    floor_sources as floor_sources,
    labelled_features as labelled_features,
    labels as labels,
    measured_floors as measured_floors,
)
# isort: on

Sort = Literal[
    "score",
    "score_up",
    "density",
    "rare",
    "activation",
    "activation_up",
    "matches",
    "matches_up",
    "label",
    "label_down",
    "index",
    "index_down",
]


def dictionary_names() -> Query:
    """Every name of a dictionary: its id, and the alias that refers to it now."""
    return named("dictionary_names", locals())


def model_ids() -> Query:
    """The ids of all models of the catalogue, in alphabetical order."""
    return named("model_ids", locals())


def dictionary_record(*, dictionary_id: str) -> Query:
    """The row of a dictionary."""
    return named("dictionary_record", locals())


def dictionaries() -> Query:
    """Every dictionary with size, fidelity, coverage and labels above chance; random directions too."""
    return named("dictionaries", locals())


def dictionary_metrics(*, dictionary_ids: Sequence[str], every_row: bool = False) -> Query:
    """Metrics of some dictionaries with their controls, on the activation sets of the dictionaries.

    ``every_row`` adds values of single letters and of other splits than ``eval``.
    """
    return named("dictionary_metrics", locals())


def dictionary_geometry(*, dictionary_id: str, activation_set_id: str) -> Query:
    """Density and decoder geometry of every feature of a dictionary, by feature."""
    return named("dictionary_geometry", locals())


def models() -> Query:
    """Every language model with its activations, dictionaries and features."""
    return named("models", locals())


def damage() -> Query:
    """Data files that are missing or damaged, none in an intact catalogue; paths are relative."""
    return named("damage", locals())


def massive_tokens() -> Query:
    """Activation sets in which some tokens have a massive norm."""
    return named("massive_tokens", locals())


def changes(*, per_kind: int = 8, limit: int = 100, offset: int = 0) -> Query:
    """Changes of the last finished run: dictionaries, labels and matches, up to a limit of each kind."""
    return named("changes", locals())


def browse(
    *,
    dictionary_id: str | None = None,
    model_id: str | None = None,
    status: str | None = None,
    density_low: float | None = None,
    density_high: float | None = None,
    score_low: float | None = None,
    matched: bool | None = None,
    words: Sequence[str] | None = None,
    token: str | None = None,
    feature_index: int | None = None,
    sort: Sort = "score",
    limit: int = 50,
    offset: int = 0,
) -> Query:
    """One page of features that fit the filters; ``n_found`` counts all that fit.

    ``words`` (lower case) must all occur in the label; ``token`` in a top token. The order ``score`` uses the
    lower end of the score's interval, dense features last; ``_up`` and ``_down`` set the direction of an
    order.
    """
    return named("browse", locals())


def alias(*, alias: str) -> Query:
    """What a name refers to now and how many dictionaries it referred to; no row if it is not an alias."""
    return named("alias", locals())


def aliases_starting(*, start: str, limit: int) -> Query:
    """Aliases of dictionaries that begin with a text."""
    return named("aliases_starting", locals())


def activation_folders() -> Query:
    """The folders of activation sets, with the bytes of each."""
    return named("activation_folders", locals())


def nearest_words(*, dictionary_id: str | None = None, words: Sequence[str]) -> Query:
    """The closest hits for a search without results: words of labels, and tokens, with their features."""
    return named("nearest_words", locals())


def nearest_labels(*, dictionary_id: str | None = None, words: Sequence[str]) -> Query:
    """Labels that hold at least one of ``words`` (lower case), each with its best feature."""
    return named("nearest_labels", locals())


def random_feature(*, dictionary_id: str | None = None, seed: int) -> Query:
    """One firing feature of a dictionary, or of all current ones; the same for the same ``seed``."""
    return named("random_feature", locals())


def feature(*, dictionary_id: str, feature_index: int, activation_set_id: str | None = None) -> Query:
    """One feature with its dictionary, activation set, label and score; no row if it was not mined."""
    return named("feature", locals())


def feature_step(*, dictionary_id: str, activation_set_id: str, feature_index: int) -> Query:
    """Index of the firing features before and after one."""
    return named("feature_step", locals())


def feature_examples(
    *,
    dictionary_id: str,
    activation_set_id: str,
    feature_index: int,
    files: Sequence[str] | None = None,
) -> Query:
    """The mined contexts of one feature.

    With ``files`` they are read from these files only. The files of a feature are those of its block:
    ``snapshot.paths("examples", dictionary_slug=slug(dictionary_id),
    feature_block=feature_block(feature_index))``.
    """
    return named("feature_examples", locals())


def feature_sets(*, dictionary_id: str, feature_index: int) -> Query:
    """The activation sets on which a feature was looked at, the one of its training first."""
    return named("feature_sets", locals())


def feature_neighbours(*, dictionary_id: str, activation_set_id: str, feature_index: int) -> Query:
    """The near features of one, with geometry flags and what they share of documents."""
    return named("feature_neighbours", locals())


def feature_matches(*, dictionary_id: str, feature_index: int, limit: int = 24) -> Query:
    """Matching features of other dictionaries, best first."""
    return named("feature_matches", locals())


def feature_associations(
    *, dictionary_id: str, activation_set_id: str, feature_index: int, limit: int = 8
) -> Query:
    """Values of document labels to which a feature is related on one activation set, strongest first."""
    return named("feature_associations", locals())


def association_tests(*, dictionary_id: str, activation_set_id: str) -> Query:
    """How many associations were tested and found on an activation set, and what was left out."""
    return named("association_tests", locals())


def feature_decodability(*, dictionary_id: str, activation_set_id: str, feature_index: int) -> Query:
    """How well a linear probe predicts a feature's firing from each cached hookpoint of the model."""
    return named("feature_decodability", locals())


def provenance(*, fingerprints: Sequence[str]) -> Query:
    """The stage attempts that produced some rows."""
    return named("provenance", locals())


def document(*, corpus_id: str, document_id: str) -> Query:
    """One document of a corpus with its full text."""
    return named("document", locals())


def runs(*, limit: int = 50) -> Query:
    """Runs, newest first."""
    return named("runs", locals())


def stage_runs(*, run_id: str) -> Query:
    """Stage attempts of one run."""
    return named("stage_runs", locals())


def typical_seconds() -> Query:
    """Typical duration of each stage in seconds."""
    return named("typical_seconds", locals())


def trends() -> Query:
    """Main metrics of each alias over its retrainings."""
    return named("trends", locals())


def metric_history(*, run_id: str) -> Query:
    """Main figures of each alias over its trainings, and which of them a run computed."""
    return named("metric_history", locals())


def alarms(*, run_id: str | None = None) -> Query:
    """Metrics out of their range in a run; by default in the newest of each pipeline that computed any."""
    return named("alarms", locals())


def columns(*, relation: str) -> Query:
    """Columns of a table or view with their DuckDB types."""
    return named("columns", locals())
