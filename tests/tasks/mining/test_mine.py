"""Mining against a plain loop over the stored activations, and what it promises about its rows."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from catalog.errors import UserError
from catalog.schemas import TABLES
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import Dictionary
from tasks.mining.config import MiningConfig
from tasks.mining.logits import Unembedding
from tasks.mining.miner import Mined, mine
from tasks.mining.special import SpecialTokens
from tasks.mining.split import example_split

N_FEATURES = 12
CONFIG = MiningConfig(
    window_tokens=8, tokens_before_peak=5, chunk_tokens=16, n_top=6, n_per_band=4, n_random=6, n_neighbour=6
)


@pytest.fixture(scope="module")
def planted(planted_set: ActivationSet, identity: Callable[[int], Dictionary]) -> dict[str, object]:
    return {"dictionary": identity(N_FEATURES), "activation_set": planted_set}


@pytest.fixture(scope="module")
def mined(planted, documents: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mined, pa.Table]:
    result = mine(
        **planted,
        documents=documents,
        unembedding=None,
        config=CONFIG,
        scratch=tmp_path_factory.mktemp("scratch"),
    )
    return result, pa.Table.from_batches(result.examples)


@pytest.fixture(scope="module")
def codes(planted_set: ActivationSet) -> np.ndarray:
    """What each feature does on each token that is mined: (S, T, L)."""
    values = planted_set.read(planted_set.sequence_rows())
    return np.where(np.asarray(planted_set.tokens.valid)[..., None], np.maximum(values, 0), 0)


def _chunks(activation_set: ActivationSet) -> dict[tuple[int, int, int], list[int]]:
    """Tokens of each chunk by (sequence, segment, number), by a plain loop."""
    chunks: dict[tuple[int, int, int], list[int]] = {}
    for sequence, segments in enumerate(np.asarray(activation_set.tokens.segment).tolist()):
        for token, segment in enumerate(segments):
            if segment >= 0:
                number = (token - segments.index(segment)) // CONFIG.chunk_tokens
                chunks.setdefault((sequence, segment, number), []).append(token)
    return chunks


def _peaks(activation_set: ActivationSet, codes: np.ndarray, feature: int) -> list[tuple[float, int, int]]:
    """(activation, sequence, token) of the peak of every chunk in which the feature fires."""
    peaks = []
    for (sequence, _, _), tokens in _chunks(activation_set).items():
        values = codes[sequence, tokens, feature]
        if values.max() > 0:
            peaks.append((float(values.max()), sequence, tokens[int(values.argmax())]))
    return peaks


def _rows(examples: pa.Table, feature: int, band: str) -> list[dict[str, object]]:
    chosen = pc.and_(pc.equal(examples["feature_index"], feature), pc.equal(examples["band"], band))
    return examples.filter(chosen).to_pylist()


def test_statistics_equal_the_plain_loop(mined, codes: np.ndarray, planted_set: ActivationSet) -> None:
    features = mined[0].features.to_pylist()
    n_valid = int(np.asarray(planted_set.tokens.valid).sum())
    n_documents = len(np.unique(planted_set.tokens.document_index[np.asarray(planted_set.tokens.valid)]))
    assert mined[0].n_tokens == n_valid
    for feature, row in enumerate(features):
        values = codes[..., feature][codes[..., feature] > 0]
        assert row["n_tokens"] == len(values)
        assert row["density"] == pytest.approx(len(values) / n_valid)
        assert (row["n_documents"], row["metric_version"]) == (n_documents, 1)
        if len(values):
            assert 0 <= row["density_ci_low"] <= row["density"] <= row["density_ci_high"] <= 1
        if len(values):
            assert row["max_activation"] == pytest.approx(values.max())
            assert row["mean_activation"] == pytest.approx(values.mean())
            assert sum(b["n"] for b in row["histogram"]) == len(values)
            assert [q["value"] for q in row["quantiles"]] == sorted(q["value"] for q in row["quantiles"])
    statuses = [row["status"] for row in features]
    assert statuses[-1] == "unseen"
    assert statuses[1] == "dense"
    assert statuses[3] == "alive"
    assert mined[0].n_alive == N_FEATURES - 1


def test_a_silent_feature_has_a_row_and_no_examples(mined) -> None:
    row = mined[0].features.to_pylist()[-1]
    assert (row["density"], row["max_activation"], row["quantiles"], row["histogram"]) == (0.0, None, [], [])
    assert (row["density_ci_low"], row["density_ci_high"]) == (None, None)
    assert not pc.any(pc.equal(mined[1]["feature_index"], N_FEATURES - 1)).as_py()


def test_top_contexts_are_the_strongest_of_each_split(
    mined, codes: np.ndarray, planted_set: ActivationSet, documents: pa.Table
) -> None:
    names = documents["document_id"].to_pylist()
    for feature in range(N_FEATURES - 1):
        by_split: dict[str, list[float]] = {"explain": [], "score": []}
        for value, sequence, token in _peaks(planted_set, codes, feature):
            split = example_split(names[planted_set.tokens.document_index[sequence, token]])
            by_split[split].append(value)
        found = _rows(mined[1], feature, "top")
        half = CONFIG.n_top // 2
        n_explain = min(len(by_split["explain"]), max(half, CONFIG.n_top - len(by_split["score"])))
        n_score = min(len(by_split["score"]), CONFIG.n_top - n_explain)
        expected = sorted(by_split["explain"])[::-1][:n_explain] + sorted(by_split["score"])[::-1][:n_score]
        assert [row["max_activation"] for row in found] == pytest.approx(sorted(expected)[::-1])
        assert [row["rank"] for row in found] == list(range(len(found)))


def test_rows_say_what_is_stored(
    mined, codes: np.ndarray, planted_set: ActivationSet, documents: pa.Table
) -> None:
    texts = dict(zip(documents["document_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
    for row in mined[1].to_pylist():
        begin, sequence = row["token_start"], row["sequence_index"]
        end = begin + len(row["token_ids"])
        assert row["token_ids"] == planted_set.tokens.token_ids[sequence, begin:end].tolist()
        stored = codes[sequence, begin:end, row["feature_index"]]
        assert row["activations"] == pytest.approx(stored)
        assert row["max_activation"] == pytest.approx(stored.max())
        if row["max_activation"] > 0:
            assert row["activations"][row["peak_position"]] == row["max_activation"]
        assert len(set(planted_set.tokens.segment[sequence, begin:end].tolist())) == 1
        assert "".join(row["tokens"]) == texts[row["document_id"]][row["char_start"] : row["char_end"]]
        assert len(row["tokens"]) == len(row["token_ids"]) == len(row["activations"])


def test_special_tokens_are_marked_and_the_text_before_a_context_is_counted(
    mined, planted_set: ActivationSet
) -> None:
    """By a plain loop."""
    tokens, n_special = planted_set.tokens, 0
    for row in mined[1].to_pylist():
        sequence, begin = row["sequence_index"], row["token_start"]
        segment = tokens.segment[sequence, begin]
        before = 0
        for place in range(begin):
            has_text = tokens.char_end[sequence, place] > tokens.char_start[sequence, place]
            before += int(tokens.segment[sequence, place] == segment and has_text)
        assert row["text_before"] == before
        for offset, (text, is_special) in enumerate(zip(row["tokens"], row["is_special"], strict=True)):
            start, end = (
                int(chars[sequence, begin + offset]) for chars in (tokens.char_start, tokens.char_end)
            )
            assert is_special == (start == end)
            if is_special:
                n_special += 1
                assert (text, offset, before, row["activations"][offset]) == ("", 0, 0, 0.0)
    assert n_special > 0


def test_special_tokens_are_those_named_and_those_without_a_character() -> None:
    """Turns of a chat template have text, BOS has none; a character of two tokens is the text of both."""
    ids = np.asarray([[0, 5, 6, 1, 7]], np.int32)
    starts, ends = np.asarray([[0, 0, 0, 1, 3]], np.int32), np.asarray([[0, 1, 1, 3, 4]], np.int32)
    segment = np.zeros_like(ids)
    packed = PackedTokens(ids, segment, segment, starts, ends, np.ones_like(ids, bool), 1)
    special = SpecialTokens(packed, [1])
    assert special.flags(ids[0], starts[0], ends[0]).tolist() == [True, False, False, True, False]
    assert special.text_before(np.arange(5)).tolist() == [0, 0, 1, 2, 2]


def test_text_is_counted_from_the_beginning_of_its_stretch() -> None:
    ids = np.asarray([[5, 1, 6, 7, 1, 8]], np.int32)
    ends = np.asarray([[1, 3, 4, 5, 8, 9]], np.int32)
    starts = np.asarray([[0, 1, 3, 4, 5, 8]], np.int32)
    segment = np.asarray([[0, 0, 0, 1, 1, 1]], np.int32)
    packed = PackedTokens(ids, segment, segment, starts, ends, np.ones_like(ids, bool), 1)
    special = SpecialTokens(packed, [1])
    assert special.flags(ids[0], starts[0], ends[0]).tolist() == [False, True, False, False, True, False]
    assert special.text_before(np.arange(6)).tolist() == [0, 1, 1, 0, 1, 1]


def test_explaining_and_scoring_documents_are_disjoint(mined) -> None:
    explain, score = (
        set(mined[1].filter(pc.equal(mined[1]["split"], split))["document_id"].to_pylist())
        for split in ("explain", "score")
    )
    assert explain
    assert score
    assert not explain & score


def test_bands_descend_and_hold_both_splits(mined) -> None:
    for feature in (0, 1, 3, 6):
        bands = [_rows(mined[1], feature, band) for band in ("q1", "q2", "q3", "q4", "q5")]
        for stronger, weaker in pairwise(bands):
            assert min(r["max_activation"] for r in stronger) >= max(r["max_activation"] for r in weaker)
        for rows in [*bands, *(_rows(mined[1], feature, band) for band in ("top", "random", "neighbour"))]:
            assert {row["split"] for row in rows} == {"explain", "score"}
        places = [
            (row["sequence_index"], row["token_start"])
            for band in ("top", "q1", "q2", "q3", "q4", "q5")
            for row in _rows(mined[1], feature, band)
        ]
        assert len(places) == len(set(places)), "no context is in two bands"


def test_controls_are_silent_and_neighbours_fire(mined, codes: np.ndarray) -> None:
    features = mined[0].features.to_pylist()
    n_controls = 0
    for row in mined[1].to_pylist():
        if row["band"] not in ("random", "neighbour"):
            continue
        n_controls += 1
        assert not any(row["activations"])
        if row["band"] == "neighbour":
            own = features[row["feature_index"]]
            near = [n["feature_index"] for n in own["nearest_by_decoder"] + own["nearest_by_coactivation"]]
            place = row["sequence_index"], row["token_start"] + row["peak_position"]
            assert codes[place][near].max() > 0
    assert n_controls > 60


def test_a_feature_that_fires_everywhere_still_gets_the_controls_there_are(mined) -> None:
    """Feature 1 fires on four of ten tokens: nearly every context of eight holds a firing."""
    assert _rows(mined[1], 1, "random")


def test_one_firing_gives_one_context(mined) -> None:
    assert len(_rows(mined[1], 5, "top")) == 1
    assert not _rows(mined[1], 5, "q1")


def test_rows_come_sorted_and_typed_as_the_catalogue_wants(mined) -> None:
    features, examples = mined[0].features, mined[1]
    keys = list(zip(*(examples[c].to_pylist() for c in ("feature_index", "band", "rank")), strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    for table, name in ((features, "features"), (examples, "examples")):
        spec = TABLES[name].schema
        for field in table.schema:
            assert field.type == spec.field(field.name).type
            if not spec.field(field.name).nullable:
                assert table[field.name].null_count == 0


def test_top_tokens_are_texts_of_peaks(mined) -> None:
    for feature, row in enumerate(mined[0].features.to_pylist()):
        peaks = [r["tokens"][r["peak_position"]].strip() for r in _rows(mined[1], feature, "top")]
        assert {text.strip() for text in row["top_tokens"]} <= set(peaks)
        assert bool(row["top_tokens"]) == any(peaks)


@pytest.mark.parametrize("changes", [{"shard_tokens": 48}, {"shard_tokens": 500}])
def test_shards_do_not_change_the_result(changes, mined, planted, documents, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update=changes)
    other = mine(**planted, documents=documents, unembedding=None, config=config, scratch=tmp_path)
    assert pa.Table.from_batches(other.examples).equals(mined[1])
    for name in (
        "n_tokens",
        "density",
        "max_activation",
        "histogram",
        "quantiles",
        "nearest_by_coactivation",
    ):
        assert other.features[name].equals(mined[0].features[name])


def test_shards_of_dense_codes_have_fewer_tokens_and_the_same_result(
    mined, planted, documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 400
    monkeypatch.setattr("tasks.mining.codes._MOST_FIRINGS", most)
    other = mine(**planted, documents=documents, unembedding=None, config=CONFIG, scratch=tmp_path)
    assert pa.Table.from_batches(other.examples).equals(mined[1])
    sizes = [path.stat().st_size for path in (tmp_path / "codes").iterdir()]
    assert len(sizes) > 1, "the whole set is one shard otherwise"
    assert max(sizes) < 2 * 8 * most + 1_000, (
        "eight bytes a firing, as many as the first sequences let expect"
    )


def test_half_precision_sets_are_mined_alike(
    texts, documents, identity, tokenise_texts, write_planted_set, tmp_path: Path
) -> None:
    quarter_steps = np.arange(13) / 4
    sets = [
        write_planted_set(
            tmp_path / dtype,
            tokenise_texts(texts),
            lambda s: np.random.default_rng(0).choice(quarter_steps, (*s.shape, 5)),
            context_length=32,
            dtype=dtype,
        )
        for dtype in ("float16", "float32")
    ]
    tables = []
    for activation_set in sets:
        scratch = activation_set.folder / "scratch"
        result = mine(identity(5), activation_set, documents, None, CONFIG, scratch)
        tables.append((result.features, pa.Table.from_batches(result.examples)))
    assert tables[0][0].equals(tables[1][0])
    assert tables[0][1].equals(tables[1][1])


def test_logits_are_read_where_the_width_fits(planted, documents, tmp_path: Path) -> None:
    w_u = torch.zeros(N_FEATURES, 30)
    w_u[torch.arange(N_FEATURES), torch.arange(N_FEATURES)] = 1.0
    fits = Unembedding(w_u, None, [f"<{i}>" for i in range(30)])
    rows = mine(**planted, documents=documents, unembedding=fits, config=CONFIG, scratch=tmp_path).features
    assert [row[0]["token"] for row in rows["top_logits"].to_pylist()] == [
        f"<{i}>" for i in range(N_FEATURES)
    ]
    narrow = Unembedding(w_u[:5], None, fits.tokens)
    rows = mine(**planted, documents=documents, unembedding=narrow, config=CONFIG, scratch=tmp_path).features
    assert rows["top_logits"].to_pylist() == [[]] * N_FEATURES


def test_wrong_width_and_wrong_corpus_are_refused(planted, documents, identity, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="width 7"):
        mine(identity(7), planted["activation_set"], documents, None, CONFIG, tmp_path)
    with pytest.raises(UserError, match="only 3 documents"):
        mine(**planted, documents=documents.slice(0, 3), unembedding=None, config=CONFIG, scratch=tmp_path)


def test_texts_of_another_corpus_are_refused(planted, documents, tmp_path: Path) -> None:
    shuffled = documents.set_column(1, "text", [documents["text"].to_pylist()[::-1]])
    with pytest.raises(UserError, match="not those that the activations were cached from"):
        mine(**planted, documents=shuffled, unembedding=None, config=CONFIG, scratch=tmp_path)
