"""A foreign crosscoder of two models: gated on both, landed, mined and matched like a trained one."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from catalog.connection import connect
from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows import import_dictionary as flow
from flows.config import load_pipeline
from flows.reports import Run
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora.text import TextCorpus
from tasks.activations.models.embedded import embedded_model_path
from tasks.activations.models.language_model import load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.foreign.alternatives import read_as
from tasks.foreign.assembly import assemble
from tasks.foreign.certificate import Certificate, refuse_unverified
from tasks.foreign.format import read_foreign
from tasks.foreign.gate import GateConfig, examine
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import (
    Hookpoints,
    Sample,
    check_same_tokens,
    gather_sample,
    side_by_side,
)
from tasks.foreign.source import ForeignSource
from tasks.mining.config import MiningConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.gate_dictionary import GateUnit, gate_dictionary
from tasks.stages.import_dictionary import import_dictionary
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.support.import_units import ImportUnit
from tasks.support.policies import StageContext

HOOKPOINT = "blocks.1.resid_post"
HOOKPOINTS = Hookpoints.of((HOOKPOINT,), models=("pico-a", "tuned"))
GATE = GateConfig(n_tokens=1_000, n_quick_tokens=500)
ACTIVATIONS = ActivationsConfig(
    hookpoints=(HOOKPOINT,), context_length=64, n_tokens=4_000, eval_share=0.25, batch_sequences=16
)
N_COMPONENTS = 24


def components_crosscoder(values: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Latents for the main components of either model, up and down, as the fork saves them."""
    d = values[0].shape[1]
    encoder, biases = torch.zeros(2, d, 4 * N_COMPONENTS), torch.zeros(4 * N_COMPONENTS)
    for number, x_ND in enumerate(values):
        directions = torch.linalg.svd(x_ND - x_ND.mean(dim=0), full_matrices=False)[2][:N_COMPONENTS]
        own = slice(2 * number * N_COMPONENTS, 2 * (number + 1) * N_COMPONENTS)
        encoder[number, :, own] = torch.cat([directions, -directions]).T
        biases[own] = -x_ND.mean(dim=0) @ encoder[number, :, own]
    return {
        "encoder.weight": encoder,
        "encoder.bias": biases,
        "decoder.weight": encoder.transpose(1, 2).contiguous(),
        "decoder.bias": torch.stack([x_ND.mean(dim=0) for x_ND in values]),
    }


def read(state: dict[str, Tensor], folder: Path, hookpoints: Hookpoints = HOOKPOINTS) -> Foreign:
    save_file(state, folder / "model.safetensors")
    return read_foreign("crosscoder", folder / "model.safetensors").with_(**hookpoints._asdict())


def gate(
    foreign: Foreign, sample: Sample, hookpoints: Hookpoints = HOOKPOINTS, **reading: Any
) -> Certificate:
    return examine(foreign.with_(**hookpoints._asdict()), ReadingConfig(**reading), hookpoints, sample, GATE)


@pytest.fixture(scope="module")
def pair(sample: Sample) -> Sample:
    """The embedded model beside one whose activations are turned and five times as large."""
    random = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(128, 128, generator=random))
    turned = {name: 5 * x @ turn for name, x in sample.values.items() if x.shape[1] == 128}
    return side_by_side({"pico-a": sample, "tuned": Sample(turned)})


def values_of(sample: Sample, hookpoints: Hookpoints = HOOKPOINTS) -> tuple[Tensor, Tensor]:
    first, second = torch.chunk(sample.inputs(hookpoints), 2, dim=1)
    return first, second


def test_a_crosscoder_of_two_models_is_verified_in_its_order_alone(pair: Sample, tmp_path: Path) -> None:
    foreign = read(components_crosscoder(values_of(pair)), tmp_path)
    certificate = gate(foreign, pair)
    assert certificate.verified, certificate
    assert certificate.figures.fvu < 0.4 < (certificate.random_fvu or 0)
    assert certificate.as_json()["place"]["models"] == ["pico-a", "tuned"]
    swapped = gate(foreign, pair, HOOKPOINTS.swapped())
    assert swapped.fitting == {"model": "pico-a+tuned"}
    with pytest.raises(UserError, match=r"with --model pico-a\+tuned it is 0\.") as refused:
        refuse_unverified("file", swapped)
    assert "\n" not in str(refused.value)
    elsewhere = gate(foreign, pair, HOOKPOINTS.moved(2))
    assert elsewhere.fitting == {"hookpoint": HOOKPOINT}


def test_each_model_has_the_scale_that_its_training_gave_it(pair: Sample, tmp_path: Path) -> None:
    """ckkissane's replication: activations of either model were brought to a mean norm of sqrt(d)."""
    scales = [128**0.5 / float(x_ND.norm(dim=1).mean()) for x_ND in values_of(pair)]
    scaled = tuple(x_ND * scale for x_ND, scale in zip(values_of(pair), scales, strict=True))
    foreign = read(components_crosscoder(scaled), tmp_path)
    certificate = gate(foreign, pair)
    assert certificate.fitting == {"normalisation": "dataset_rms"}
    assert gate(foreign, pair, normalisation="dataset_rms").verified
    given = read_as(foreign, ReadingConfig(normalisation="dataset_rms"), pair.inputs_of(HOOKPOINTS))
    assert given.site_scales == pytest.approx(scales)
    dictionary = assemble(given)
    assert isinstance(dictionary, Crosscoding)
    x = pair.inputs(HOOKPOINTS)
    by_hand = torch.cat([torch.cat(scaled, dim=1) @ foreign.W_enc + foreign.b_enc], dim=1).relu()
    torch.testing.assert_close(dictionary.encode(x), by_hand, rtol=1e-4, atol=1e-4)
    norms = torch.stack([part.norm(dim=1) for part in torch.chunk(foreign.W_dec, 2, dim=1)], dim=1)
    torch.testing.assert_close(dictionary.comparable_norms(), norms, rtol=1e-5, atol=1e-6)
    assert sorted(set(dictionary.relative_norms().round().tolist())) == [0.0, 1.0]


def test_a_batch_topk_crosscoder_keeps_its_threshold_in_the_units_of_its_training(
    pair: Sample, tmp_path: Path
) -> None:
    scaled = tuple(x_ND * 128**0.5 / x_ND.norm(dim=1).mean() for x_ND in values_of(pair))
    state = components_crosscoder(scaled) | {"k": torch.tensor(8), "threshold": torch.tensor(1.5)}
    foreign = read(state, tmp_path)
    dictionary = assemble(
        read_as(foreign, ReadingConfig(normalisation="dataset_rms"), pair.inputs_of(HOOKPOINTS))
    )
    acts = (torch.cat(scaled, dim=1) @ foreign.W_enc + foreign.b_enc).relu()
    kept = acts * (acts * state["decoder.weight"].norm(dim=2).sum(dim=0) > 1.5)
    assert 0 < int((kept > 0).sum()) < int((acts > 0).sum())
    torch.testing.assert_close(dictionary.encode(pair.inputs(HOOKPOINTS)), kept, rtol=1e-4, atol=1e-4)


def test_models_of_different_tokenizers_are_refused(activation_set: ActivationSet) -> None:
    ours = activation_set.tokens
    check_same_tokens({"a": ours, "b": ours})
    others = replace(ours, token_ids=ours.token_ids[:, ::-1])
    with pytest.raises(UserError, match="'a' and 'b' have different tokenizers"):
        check_same_tokens({"a": ours, "b": others})


def write_tuned(folder: Path) -> ModelConfig:
    """The embedded model after some change to its weights."""
    shutil.copytree(embedded_model_path("pico-a"), folder)
    random = torch.Generator().manual_seed(1)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "mlp" in name or "attn" in name:
            noise = torch.randn(tensor.shape, generator=random) * tensor.float().std()
            tensors[name] = tensor + 0.3 * noise.to(tensor)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return ModelConfig(id="tuned", source="local", path=str(folder))


class Ready(NamedTuple):
    """A catalogue with a corpus and two models."""

    context: StageContext
    models: tuple[ModelConfig, ...]
    corpus: StageOutcome
    described: tuple[StageOutcome, ...]
    cached: tuple[StageOutcome, ...]

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        with connect(self.context.root) as connection:
            return connection.sql(query, params=parameters).to_arrow_table().to_pylist()

    def landed(self, state: dict[str, Tensor], folder: Path, name: str) -> StageOutcome:
        """The crosscoder in the catalogue."""
        save_file(state, folder / f"{name}.safetensors")
        source = ForeignSource(format="crosscoder", path=folder / f"{name}.safetensors")
        source = source.pinned(source.read())
        unit = GateUnit(source, HOOKPOINTS, GATE, self.models, ACTIVATIONS, self.corpus, self.described)
        gated = gate_dictionary.fn(self.context, unit)
        return import_dictionary.fn(
            self.context, ImportUnit(source, name, HOOKPOINTS, self.models, self.cached, gated)
        )


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("two")
    context = StageContext(folder / "catalogue", "run-1", device="cpu")
    models = (ModelConfig(id="pico-a", source="embedded"), write_tuned(folder / "tuned"))
    sources = Path(__file__).parents[3] / "tasks" / "dictionaries" / "*.py"
    corpus = load_corpus.fn(context, CorpusUnit(TextCorpus.Config(path=str(sources)), 0.25))
    described = tuple(describe_model.fn(context, ModelUnit(model)) for model in models)
    cached = tuple(
        cache_activations.fn(context, CacheUnit(model, ACTIVATIONS, corpus, outcome))
        for model, outcome in zip(models, described, strict=True)
    )
    return Ready(context, models, corpus, described, cached)


def test_it_is_landed_mined_and_matched_like_a_trained_one(
    ready: Ready, activation_set: ActivationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = {
        model.id: gather_sample(load_language_model(model, "cpu"), activation_set.tokens, HOOKPOINTS, 2_000)
        for model in ready.models
    }
    state = components_crosscoder(values_of(side_by_side(samples)))
    landed = ready.landed(state, tmp_path, "one")
    (row,) = ready.rows("select * from dictionaries where alias = $alias", alias=landed.facts["alias"])
    assert row["alias"] == f"pico-a-and-tuned/{HOOKPOINT}/one"
    assert (row["origin"], row["verified"], row["architecture"]) == ("imported", True, "crosscoder")
    assert [point["model_id"] for point in row["reads"]] == ["pico-a", "tuned"]
    mined = mine_examples.fn(ready.context, MineUnit(MiningConfig(n_top=4), ready.models, landed))
    assert mined.facts["n_alive"] > 90
    features = ready.rows(
        "select relative_norm, error_ratio, site_norms from features where dictionary_id = $id "
        "order by feature_index",
        id=landed.facts["dictionary_id"],
    )
    relative = [feature["relative_norm"] for feature in features]
    assert relative == pytest.approx([0.0] * 2 * N_COMPONENTS + [1.0] * 2 * N_COMPONENTS)
    assert all(len(feature["site_norms"]) == 2 for feature in features)
    assert any(feature["error_ratio"] is not None for feature in features)

    order = torch.randperm(4 * N_COMPONENTS, generator=torch.Generator().manual_seed(2))
    turned = {name: tensor[..., order] for name, tensor in state.items() if name.startswith("encoder")}
    turned |= {"decoder.weight": state["decoder.weight"][:, order], "decoder.bias": state["decoder.bias"]}
    again = ready.landed({name: tensor.contiguous() for name, tensor in turned.items()}, tmp_path, "two")
    run = Run("import-dictionary", "demo", ready.context, datetime.now(UTC), "0" * 64)
    monkeypatch.setattr(flow, "match_features", match_features.fn)
    flow._match_stages(run, load_pipeline("demo", ["match=[{matcher: decoder_cosine}]"]), again)
    assert run.failures == []
    ((_, matched),) = run.outcomes
    assert matched.facts["dictionary_b"] == again.facts["dictionary_id"]
    rows = ready.rows(
        "select feature_a, feature_b from matches where rank = 0 and dictionary_a = $a",
        a=matched.facts["dictionary_a"],
    )
    assert {row["feature_a"]: row["feature_b"] for row in rows} == {
        int(old): new for new, old in enumerate(order)
    }
