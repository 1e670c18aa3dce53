"""An imported dictionary in the catalogue: gated, landed, mined; refused where it does not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from catalog.ledger import StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora.text import TextCorpus
from tasks.activations.models.source import ModelConfig
from tasks.foreign.assembly import assemble
from tasks.foreign.format import Written, format_named
from tasks.foreign.gate import GateConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints
from tasks.foreign.source import ForeignSource
from tasks.mining.config import MiningConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.gate_dictionary import GateUnit, gate_dictionary
from tasks.stages.import_dictionary import import_dictionary
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.support.import_units import ImportUnit
from tasks.support.policies import StageContext

HOOKPOINT = "blocks.1.resid_post"
MODEL = ModelConfig(id="pico-a", source="embedded")
ACTIVATIONS = ActivationsConfig(
    hookpoints=(HOOKPOINT,), context_length=64, n_tokens=6_000, eval_share=0.25, batch_sequences=16
)
GATE = GateConfig(n_tokens=1_000, n_quick_tokens=500)


class Ready(NamedTuple):
    """A catalogue with corpus and model, and a foreign folder beside it."""

    context: StageContext
    corpus: StageOutcome
    described: StageOutcome
    folder: Path

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with connect(self.context.root) as connection:
            return connection.sql(query, params=parameters).to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def ready(trained: Callable[..., Foreign], tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("import")
    context = StageContext(folder / "catalogue", "run-1", device="cpu")
    sources = Path(__file__).parents[3] / "tasks" / "dictionaries" / "*.py"
    corpus = load_corpus.fn(context, CorpusUnit(TextCorpus.Config(path=str(sources)), 0.25))
    described = describe_model.fn(context, ModelUnit(MODEL))
    dictionary = assemble(trained("topk", 512))
    written = Written(dictionary, "pico-a", (HOOKPOINT,), (HOOKPOINT,), {"dataset_path": "sources"})
    format_named("saelens").write(written, folder / "sae")
    return Ready(context, corpus, described, folder / "sae")


def gate(ready: Ready, hookpoint: str = HOOKPOINT, *, accept: bool = False) -> StageOutcome:
    source = ForeignSource(format="saelens", path=ready.folder)
    unit = GateUnit(
        source.pinned(source.read()),
        Hookpoints.of((hookpoint,)),
        GATE,
        (MODEL,),
        ACTIVATIONS,
        ready.corpus,
        (ready.described,),
        accept,
    )
    return gate_dictionary.fn(ready.context, unit)


def land(ready: Ready, gated: StageOutcome, name: str) -> StageOutcome:
    cached = cache_activations.fn(ready.context, CacheUnit(MODEL, ACTIVATIONS, ready.corpus, ready.described))
    source = ForeignSource(format="saelens", path=ready.folder)
    hookpoints = Hookpoints.of((HOOKPOINT,))
    unit = ImportUnit(source.pinned(source.read()), name, hookpoints, (MODEL,), (cached,), gated)
    return import_dictionary.fn(ready.context, unit)


def test_an_imported_dictionary_is_mined_like_a_trained_one(ready: Ready) -> None:
    gated = gate(ready)
    landed = land(ready, gated, "saelens-sae")
    assert not land(ready, gate(ready), "saelens-sae").recomputed
    (row,) = ready.rows("select * from dictionaries where alias = $alias", alias=landed.facts["alias"])
    assert (row["origin"], row["verified"], row["architecture"]) == ("imported", True, "topk")
    assert row["alias"] == f"pico-a/{HOOKPOINT}/saelens-sae"
    assert json.loads(row["config"])["imported"]["format"] == "saelens"
    mined = mine_examples.fn(ready.context, MineUnit(MiningConfig(n_top=4), (MODEL,), landed))
    assert mined.facts["n_features"] == 512
    assert mined.facts["n_alive"] > 20


def test_the_certificate_is_in_the_metrics_and_beside_the_weights(ready: Ready) -> None:
    landed = land(ready, gate(ready), "saelens-sae")
    metrics = ready.rows(
        "select metric, variant, value, n, control from dictionary_metrics where dictionary_id = $id",
        id=landed.facts["dictionary_id"],
    )
    (fvu,) = (row for row in metrics if row["metric"] == "import_fvu" and row["variant"] == "")
    assert fvu["value"] < json.loads(fvu["control"])["random"]
    assert fvu["n"] == 1_000
    assert "hookpoint=blocks.2.resid_post" in {row["variant"] for row in metrics}
    config = json.loads((ready.context.root / landed.facts["weights_uri"] / "cfg.json").read_text())
    certificate = config["metadata"]["certificate"]
    assert certificate["verified"] is True
    assert certificate["figures"]["fvu"] == fvu["value"]
    assert config["metadata"]["imported"]["file_says"]["metadata"]["dataset_path"] == "sources"


def test_what_does_not_fit_is_not_stored_unless_asked_for(ready: Ready) -> None:
    before = ready.rows("select dictionary_id from dictionaries")
    with pytest.raises(UserError, match=r"with --hookpoint blocks\.1\.resid_post it is 0\."):
        gate(ready, "blocks.3.resid_post")
    assert ready.rows("select dictionary_id from dictionaries") == before
    accepted = gate(ready, "blocks.3.resid_post", accept=True)
    assert accepted.facts["certificate"]["verified"] is False
    assert accepted.facts["certificate"]["fitting"] == {"hookpoint": HOOKPOINT}


def test_a_file_that_changes_under_way_is_refused(ready: Ready) -> None:
    source = ForeignSource(format="saelens", path=ready.folder, digest="0" * 64)
    with pytest.raises(UserError, match="changed while it was being imported"):
        source.read()
