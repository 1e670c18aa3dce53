"""Which pairs are matched stands in the pipeline file; without a word it is what it always was."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from flows.members import Trained
from flows.pair_limit import check_pairs
from flows.pair_rules import RULES, chosen_pairs
from flows.pairs import crossed_units, landed_units, pipeline_units
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.base import dictionary_config
from tasks.matching.matcher import MatchConfig, MatcherConfig, PairRule
from tests.tasks.support.test_catalogued import store

README = Path(__file__).resolve().parents[2] / "tasks" / "matching" / "README.md"
TOPK = {"architecture": "topk", "expansion_factor": 8, "k": 16, "n_tokens": 1_000}
RELU = {"architecture": "batch_topk", "expansion_factor": 8, "k": 16, "n_tokens": 1_000}
RANDOM = {"architecture": "random_directions", "expansion_factor": 8, "k": 4}
STREAM = tuple(f"blocks.{layer}.resid_post" for layer in (0, 2, 3))


def matcher(name: str = "decoder_cosine", **settings: Any) -> MatcherConfig:
    config: MatcherConfig = TypeAdapter(MatchConfig).validate_python({"matcher": name, **settings})
    return config


def landed(model: str, hookpoint: str, name: str, corpus: str = "texts") -> StageOutcome:
    point = {"model_id": model, "hookpoint": hookpoint}
    alias = f"{model}/{hookpoint}/{name}"
    facts = {"dictionary_id": alias, "alias": alias, "reads": [point], "writes": [point], "place": hookpoint}
    return StageOutcome(f"of {alias}", "train_dictionary", False, facts={**facts, "corpus_id": corpus})


def trained(
    model: str, hookpoint: str, settings: dict[str, Any] = TOPK, *, hookpoints_key: str = "", **other: Any
) -> Trained:
    config = dictionary_config({**settings, **other})
    position = hookpoints_key or str(STREAM.index(hookpoint))
    outcome = landed(model, hookpoint, config.name())
    return Trained((ModelConfig(id=model, source="embedded"),), position, config, outcome)


def pipeline(models: Sequence[str] = ("pico-a", "pico-b")) -> list[Trained]:
    """At three hookpoints of every model: a kind with two seeds, another kind, a control."""
    return [
        one
        for model in models
        for hookpoint in STREAM
        for one in (
            trained(model, hookpoint),
            trained(model, hookpoint, seed=1),
            trained(model, hookpoint, RELU),
            trained(model, hookpoint, RANDOM),
        )
    ]


def said(pairs: Sequence[tuple[Trained, Trained]]) -> set[tuple[str, str]]:
    return {(first.outcome.fingerprint, second.outcome.fingerprint) for first, second in pairs}


def matched_before(one: Trained, other: Trained) -> bool:
    """The rule of releases that had no ``pairs``."""
    same_kind, same_models = one.config.name() == other.config.name(), one.model_ids == other.model_ids
    return one.hookpoints_key == other.hookpoints_key and (same_models or same_kind)


def test_by_default_the_pairs_are_those_of_earlier_releases_in_their_order() -> None:
    every = pipeline()
    found = [one for one in every if not one.config.is_control]
    before = [pair for pair in combinations(found, 2) if matched_before(*pair)]
    assert chosen_pairs(every, matcher().pairs) == before
    assert len(before) == 2 * 3 * 3 + 3 * 3, "three pairs at each place, three kinds at each of three places"


def test_behaviour_is_compared_between_models_unless_the_file_says_more(tmp_path: Path) -> None:
    every = pipeline()
    between = pipeline_units([matcher("activation_correlation")], every, tmp_path)
    assert len(between) == 3 * 3, "as in earlier releases"
    seeds = pipeline_units([matcher("activation_correlation", pairs=["seeds"])], every, tmp_path)
    assert len(seeds) == 2 * 3, "dictionaries of one place"


def test_what_chooses_pairs_does_not_change_the_identity_of_a_match() -> None:
    plain = matcher()
    chosen = matcher(pairs=["layers"], **{"with": ["pico-a/*"]})
    assert chosen != plain
    assert chosen.matching() == plain.matching()
    assert {"pairs", "with", "with_"}.isdisjoint(plain.matching())
    assert matcher(seed=1).matching() != plain.matching()


@pytest.mark.parametrize(
    ("rules", "n_pairs", "of"),
    [
        (["same_place"], 18, ("place", "model")),
        (["seeds"], 6, ("place", "model", "kind")),
        (["layers"], 18, ("model", "name")),
        (["adjacent_layers"], 12, ("model", "name")),
        (["models"], 9, ("place", "name")),
        (["seeds", "same_place"], 18, ("place", "model")),
        (["seeds", "layers"], 24, ("model",)),
        ([], 0, ()),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_a_rule_chooses_its_pairs(rules: list[PairRule], n_pairs: int, of: tuple[str, ...]) -> None:
    pairs = chosen_pairs(pipeline(), rules)
    assert len(said(pairs)) == len(pairs) == n_pairs
    for first, second in pairs:
        same = {
            "place": first.hookpoints_key == second.hookpoints_key,
            "model": first.model_ids == second.model_ids,
            "name": first.config.name() == second.config.name(),
            "kind": first.config.architecture == second.config.architecture,
        }
        assert all(same[what] for what in of), (first, second)


def test_adjacent_layers_have_no_other_of_the_kind_between_them() -> None:
    models = ["pico-a"]
    pairs = chosen_pairs(pipeline(models), ["adjacent_layers"])
    layers = {tuple(one.outcome.facts["place"] for one in pair) for pair in pairs}
    assert layers == {(STREAM[0], STREAM[1]), (STREAM[1], STREAM[2])}
    ends = [trained("pico-a", STREAM[0]), trained("pico-a", STREAM[1], RELU), trained("pico-a", STREAM[2])]
    assert said(chosen_pairs(ends, ["adjacent_layers"])) == said([(ends[0], ends[2])]), "none of the kind"


def test_adjacent_layers_are_those_of_one_hookpoint() -> None:
    names = ("blocks.1.mlp_out", "blocks.1.resid_post", "blocks.2.mlp_out", "module:model.layers.2.mlp")
    found = [trained("pico-a", name, hookpoints_key=str(number)) for number, name in enumerate(names)]
    assert said(chosen_pairs(found, ["adjacent_layers"])) == said([(found[0], found[2])])
    assert len(chosen_pairs(found, ["layers"])) == 6


def test_modules_of_a_model_have_layers_too() -> None:
    names = ("module:transformer.h.9.mlp", "module:transformer.h.10.mlp", "module:transformer.h.11.mlp")
    found = [trained("pico-a", name, hookpoints_key=str(number)) for number, name in enumerate(names)]
    assert len(chosen_pairs(found, ["adjacent_layers"])) == 2, "ten comes after nine"


def test_models_are_compared_by_position_and_by_name_where_there_is_no_position() -> None:
    shifted = [
        trained("pico-a", STREAM[0], hookpoints_key="0"),
        trained("pico-b", STREAM[1], hookpoints_key="0"),
    ]
    assert len(chosen_pairs(shifted, ["models"])) == 1
    used = [trained("pico-a", STREAM[1]), trained("other", STREAM[1], hookpoints_key=STREAM[1])]
    assert len(chosen_pairs(used, ["models"])) == 1
    assert not chosen_pairs([used[0], trained("other", STREAM[2], hookpoints_key=STREAM[2])], ["models"])


def test_every_rule_says_its_purpose_and_stands_in_the_readme() -> None:
    assert set(RULES) == set(get_args(PairRule))
    for name, rule in RULES.items():
        assert rule.purpose.startswith("chooses "), name
        assert f"| `{name}` |" in README.read_text()


def test_every_two_of_two_lists_are_compared_once() -> None:
    a, b, c = (landed("pico-a", STREAM[0], name) for name in "abc")
    units = crossed_units([matcher(), matcher("activation_correlation")], [a, b], [b, a, c])
    pairs = [(unit.first.fingerprint, unit.second.fingerprint) for unit in units]
    ids = [one.fingerprint for one in (a, b, c)]
    assert pairs == 2 * [(ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2])]


def catalogue(root: Path) -> None:
    """Two dictionaries of another model, a control, and one that the pipeline trains itself."""
    for alias in ("other/x/topk-a", "other/x/topk-b", pipeline()[0].outcome.facts["alias"]):
        store(root, alias)
    store(root, "other/x/random", architecture="random_directions")


def test_dictionaries_of_the_catalogue_are_compared_with_each_of_the_pipeline(tmp_path: Path) -> None:
    catalogue(tmp_path)
    here = pipeline(["pico-a"])[:4]
    own = here[0].outcome.facts
    own["dictionary_id"] = f"{own['alias']}-00000000"
    chosen = matcher("activation_correlation", pairs=[], **{"with": ["*"]})
    units = pipeline_units([chosen], here, tmp_path)
    aliases = [tuple(side.facts["alias"] for side in (unit.first, unit.second)) for unit in units]
    mine = [one.outcome.facts["alias"] for one in here[:3]]
    assert aliases == [(one, f"other/x/topk-{name}") for one in mine for name in "ab"]
    assert pipeline_units([matcher(pairs=[], **{"with": ["other/*"]})], here, tmp_path) == [], "no one space"


def test_an_import_is_compared_with_what_is_named(tmp_path: Path) -> None:
    catalogue(tmp_path)
    imported = landed("pico-a", STREAM[0], "imported")
    chosen = matcher("activation_correlation", **{"with": ["other/*"]})
    units = landed_units([chosen], imported, tmp_path)
    assert [unit.second.facts["alias"] for unit in units] == ["other/x/topk-a", "other/x/topk-b"]
    assert all(unit.first is imported for unit in units)


def config(*match: dict[str, Any], n_layers: int = 3, use: str | None = None) -> PipelineConfig:
    """A pipeline for ``4 n_layers + 2`` dictionaries that are no controls."""
    hookpoints = [f"blocks.{layer}.resid_post" for layer in range(n_layers)]
    used = [] if use is None else [{"use": use}]
    return PipelineConfig.model_validate(
        {
            "name": "pairs",
            "corpus": {"source": "stdlib"},
            "models": [{"id": "pico-a", "source": "embedded"}, {"id": "pico-b", "source": "embedded"}],
            "activations": {"hookpoints": hookpoints, "context_length": 64, "n_tokens": 1_000},
            "dictionaries": [TOPK, RELU, {**TOPK, "reads": hookpoints[:1], "seed": 1}, RANDOM, *used],
            "match": list(match),
        }
    )


def test_a_glob_for_too_many_pairs_needs_a_yes(tmp_path: Path) -> None:
    for number in range(4):
        store(tmp_path, f"other/x/topk-{number}")
    few, many = ({"matcher": "decoder_cosine", "with": [glob]} for glob in ("other/x/topk-[0-2]", "other/*"))
    check_pairs(config(few, n_layers=62), tmp_path)
    check_pairs(config(many, n_layers=61), tmp_path)
    with pytest.raises(UserError) as refused:
        check_pairs(config(many, n_layers=63), tmp_path)
    assert "up to 1,016 pairs of dictionaries to match by with 'other/*' of decoder_cosine" in str(
        refused.value
    )
    assert "--yes" in str(refused.value)
    assert "\n" not in str(refused.value)
    check_pairs(config(many, n_layers=63), tmp_path, yes=True)


def test_a_glob_of_used_dictionaries_for_too_many_pairs_needs_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four used at one place the rules choose six pairs."""
    monkeypatch.setattr("flows.pair_limit.MOST_PAIRS", 5)
    monkeypatch.setattr("flows.members.stored_settings", lambda *_: (dictionary_config(TOPK), 4))
    for name in "abcd":
        store(tmp_path, f"pico-a/blocks.0.resid_post/{name}")
    entry = {"matcher": "decoder_cosine"}
    check_pairs(config(entry, use="pico-a/*/[a-c]"), tmp_path)
    with pytest.raises(
        UserError, match=r"up to 6 pairs .* by use 'pico-a/\*' with decoder_cosine, more than"
    ):
        check_pairs(config(entry, use="pico-a/*"), tmp_path)
    check_pairs(config(entry, use="pico-a/*"), tmp_path, yes=True)
    check_pairs(config({**entry, "pairs": ["layers"]}, use="pico-a/*"), tmp_path)


def test_a_glob_that_finds_nothing_is_refused_even_with_a_yes(tmp_path: Path) -> None:
    catalogue(tmp_path)
    with pytest.raises(UserError, match=r"matches 'another/\*'; close names are other/x/"):
        check_pairs(config({"matcher": "decoder_cosine", "with": ["another/*"]}), tmp_path, yes=True)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"pairs": ["neighbours"]}, "'same_place', 'seeds', 'layers', 'adjacent_layers' or 'models'"),
        ({"with": [""]}, "at least 1 character"),
        ({"with_": ["x"]}, "unknown field 'with_'; known: matcher, pairs, with, "),
        ({"pair": []}, "unknown field 'pair'"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_known_ones(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        matcher(**entry)


def test_the_check_loads_no_scheduler() -> None:
    """Prefect reads its settings for the console when it is loaded, so a command loads it after the check."""
    code = "import sys, flows.pair_limit; print('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
