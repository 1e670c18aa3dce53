"""A temporal dictionary of SAELens in the catalogue: gated, measured, mined and matched in its documents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from catalog.connection import connect
from catalog.ledger import StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora.text import TextCorpus
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.metrics import MetricName, ReconstructionSums
from tasks.dictionaries.weights import load_dictionary
from tasks.evaluation.suites.density_spectrum import DensitySpectrumConfig
from tasks.evaluation.suites.first_letter import FirstLetterConfig
from tasks.evaluation.suites.sequence_error import SequenceErrorConfig
from tasks.foreign.assembly import assemble
from tasks.foreign.certificate import Certificate
from tasks.foreign.format import read_foreign
from tasks.foreign.gate import GateConfig, examine
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints, Sample, gather_sample
from tasks.foreign.source import ForeignSource
from tasks.matching.matchers.activation_correlation import ActivationCorrelationConfig
from tasks.mining.config import MiningConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.evaluate_suite import evaluate_suite
from tasks.stages.gate_dictionary import GateUnit, gate_dictionary
from tasks.stages.import_dictionary import import_dictionary
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.support.import_units import ImportUnit
from tasks.support.match_units import MatchUnit
from tasks.support.policies import StageContext
from tasks.support.suite_units import SuiteUnit

HOOKPOINT = "blocks.1.resid_post"
HOOKPOINTS = Hookpoints.of((HOOKPOINT,))
MODEL = ModelConfig(id="pico-a", source="embedded")
ACTIVATIONS = ActivationsConfig(
    hookpoints=(HOOKPOINT,), context_length=64, n_tokens=6_000, eval_share=0.25, batch_sequences=16
)
GATE = GateConfig(n_tokens=1_000, n_quick_tokens=500)
D_SAE = 256


@pytest.fixture(scope="module")
def folder(trained: Callable[..., Foreign], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained TopK behind one layer of attention that expects the mean of the codes so far."""
    plain, folder = trained("topk", D_SAE, k=16), tmp_path_factory.mktemp("temporal")
    same, nothing = torch.eye(D_SAE), torch.zeros(D_SAE)
    layer = {"k_ctx": torch.zeros(8, D_SAE), "q_target": torch.zeros(8, D_SAE), "v_ctx": same, "c_proj": same}
    tensors = {"W_enc": plain.W_enc * 4 * plain.d_in, "W_dec": plain.W_dec, "b_dec": plain.b_dec}
    for name, weight in layer.items():
        tensors[f"attn_layers.0.{name}.weight"] = weight.clone()
        tensors[f"attn_layers.0.{name}.bias"] = nothing[: len(weight)].clone()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "sae_weights.safetensors")
    config = {"architecture": "temporal", "d_in": plain.d_in, "d_sae": D_SAE, "n_heads": 4}
    config |= {"bottleneck_factor": 32, "kval_topk": 16, "tied_weights": False, "n_attn_layers": 1}
    config["metadata"] = {"sae_lens_version": "6.54.12", "hook_name": "blocks.1.hook_resid_post"}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def in_sequences(language_model: LanguageModel, activation_set: ActivationSet) -> Sample:
    packed = activation_set.tokens
    return gather_sample(language_model, packed, HOOKPOINTS, 2_000, in_sequences=True).finite(HOOKPOINTS)


def gate(foreign: Foreign, sample: Sample, **reading: Any) -> Certificate:
    return examine(foreign, ReadingConfig(**reading), HOOKPOINTS, sample, GATE)


def test_the_gate_reads_whole_sequences(
    folder: Path, in_sequences: Sample, activation_set: ActivationSet
) -> None:
    foreign = read_foreign("saelens", folder)
    certificate = gate(foreign, in_sequences)
    assert certificate.verified, certificate
    rows = activation_set.sequence_rows("eval")
    fvu = directly(assemble(foreign), activation_set, rows).fvu(2_000)
    assert certificate.figures.fvu == pytest.approx(fvu, rel=1e-4)
    assert certificate.random_fvu is not None
    assert certificate.figures.fvu < 0.3 < certificate.random_fvu


def test_the_gate_says_what_was_lost(folder: Path, in_sequences: Sample) -> None:
    """TopK as ReLU, the factor of the inputs, and a dictionary of the layer below."""
    foreign = read_foreign("saelens", folder)
    relu = gate(foreign.with_(activation="relu", k=None), in_sequences)
    assert not relu.verified
    assert relu.fitting == {"k": 16, "activation": "topk"}
    factor = 128**0.5 / float(in_sequences.inputs(HOOKPOINTS).norm(dim=1).mean())
    unscaled = {
        "W_enc": foreign.W_enc / factor,
        "W_dec": foreign.W_dec * factor,
        "b_dec": foreign.b_dec * factor,
    }
    scaled = gate(foreign.with_(**unscaled), in_sequences)
    assert (scaled.verified, scaled.fitting) == (False, {"normalisation": "dataset_rms"})
    elsewhere = examine(foreign, ReadingConfig(), Hookpoints.of(("blocks.2.resid_post",)), in_sequences, GATE)
    assert elsewhere.fitting == {"hookpoint": HOOKPOINT}


class Directly(NamedTuple):
    """What a dictionary does on the valid tokens of some sequences, documents cut out one by one."""

    acts_NL: Tensor
    x_ND: Tensor
    recon_ND: Tensor

    def fvu(self, n: int) -> float:
        sums = ReconstructionSums()
        sums.add(self.x_ND[:n], self.recon_ND[:n])
        return float(sums.values()[MetricName("fvu")] or 0)


def directly(dictionary: Dictionary, activations: ActivationSet, rows: Any) -> Directly:
    parts = []
    tokens = activations.tokens
    for row in rows:
        x_TD = torch.from_numpy(activations.read(np.array([row]))[0]).float()
        segment, valid = np.array(tokens.segment[row]), np.array(tokens.valid[row])
        for number in range(segment.max() + 1):
            of_document = torch.from_numpy(segment == number)
            seen = dictionary.in_context(x_TD[None, of_document], torch.zeros(1, int(of_document.sum())))[0]
            parts.append(seen[torch.from_numpy(valid)[of_document]])
    seen_NW = torch.cat(parts)
    return Directly(dictionary.encode(seen_NW), seen_NW[:, : dictionary.d_in], dictionary(seen_NW))


class Landed(NamedTuple):
    """A catalogue with the dictionary in it."""

    context: StageContext
    imported: StageOutcome

    def rows(self, query: str) -> list[dict[str, Any]]:
        with connect(self.context.root) as connection:
            return list(connection.sql(query).to_arrow_table().to_pylist())


@pytest.fixture(scope="module")
def landed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Landed:
    context = StageContext(tmp_path_factory.mktemp("import") / "catalogue", "run-1", device="cpu")
    sources = Path(__file__).parents[3] / "tasks" / "dictionaries" / "*.py"
    corpus = load_corpus.fn(context, CorpusUnit(TextCorpus.Config(path=str(sources)), 0.25))
    described = describe_model.fn(context, ModelUnit(MODEL))
    source = ForeignSource(format="saelens", path=folder)
    source = source.pinned(source.read())
    unit = GateUnit(source, HOOKPOINTS, GATE, (MODEL,), ACTIVATIONS, corpus, (described,))
    gated = gate_dictionary.fn(context, unit)
    cached = cache_activations.fn(context, CacheUnit(MODEL, ACTIVATIONS, corpus, described))
    imported = import_dictionary.fn(
        context, ImportUnit(source, "temporal", HOOKPOINTS, (MODEL,), (cached,), gated)
    )
    return Landed(context, imported)


def of_catalogue(landed: Landed) -> tuple[Dictionary, ActivationSet]:
    facts, root = landed.imported.facts, landed.context.root
    return load_dictionary(root / facts["weights_uri"]), ActivationSet.open(root / facts["reads"][0]["uri"])


def test_its_features_are_those_of_whole_documents(landed: Landed) -> None:
    (row,) = landed.rows("select architecture, origin, verified, config from dictionaries")
    assert (row["architecture"], row["origin"], row["verified"]) == ("temporal", "imported", True)
    mined = mine_examples.fn(landed.context, MineUnit(MiningConfig(n_top=4), (MODEL,), landed.imported))
    acts_NL = directly(*of_catalogue(landed), np.arange(of_catalogue(landed)[1].n_sequences)).acts_NL
    assert mined.facts["n_alive"] == int((acts_NL > 0).any(dim=0).sum()) > 100
    found = landed.rows("select max_activation, n_tokens from features order by feature_index")
    largest = [row["max_activation"] or 0.0 for row in found]
    np.testing.assert_allclose(largest, acts_NL.amax(dim=0).numpy(), rtol=1e-3, atol=1e-6)
    firings = np.array([row["n_tokens"] for row in found])
    np.testing.assert_allclose(firings, (acts_NL > 0).sum(dim=0).numpy(), atol=2)
    assert landed.rows("select count(*) as n from examples")[0]["n"] > 100


def test_it_is_measured_in_context_beside_controls_that_are_not(landed: Landed) -> None:
    config = EvaluationConfig(max_tokens=10_000, max_control_tokens=1_000, fidelity_sequences=4)
    evaluate_dictionary.fn(landed.context, EvaluateUnit(config, (MODEL,), landed.imported))
    rows = landed.rows("select metric, variant, value, n, control, note from dictionary_metrics")
    found = {(row["metric"], row["variant"]): row for row in rows}
    dictionary, activations = of_catalogue(landed)
    measured = directly(dictionary, activations, activations.sequence_rows("eval"))
    assert found["fvu", ""]["n"] == len(measured.x_ND)
    assert found["fvu", ""]["value"] == pytest.approx(measured.fvu(len(measured.x_ND)), rel=1e-4)
    assert found["fvu", ""]["value"] < json.loads(found["fvu", ""]["control"])["random"]
    assert found["l0", ""]["value"] == 16
    assert 0 < found["skip_share", ""]["value"] < 1 - found["fvu", ""]["value"]
    assert 0.5 < found["ce_recovered", "mean_ablation"]["value"] < 1


def test_suites_and_matchers_read_it_in_context(landed: Landed) -> None:
    for config in (SequenceErrorConfig(max_tokens=1_000), DensitySpectrumConfig(), FirstLetterConfig()):
        evaluate_suite.fn(landed.context, SuiteUnit(config, (MODEL,), landed.imported))
    spectrum = landed.rows(
        "select sum(value) as shares from dictionary_metrics where metric = 'density_spectrum'"
    )
    assert spectrum[0]["shares"] == pytest.approx(1)
    rows = landed.rows("select metric, value, control, note from dictionary_metrics where variant = ''")
    found = {row["metric"]: row for row in rows}
    assert found["mse_seqmean"]["value"] < json.loads(found["mse_seqmean"]["control"])["random"]
    assert found["absorption_fraction"]["note"].startswith(
        "the dictionary explains a token by the tokens before"
    )
    matcher = ActivationCorrelationConfig(matcher="activation_correlation", n_partners=1, n_shifts=19)
    match_features.fn(landed.context, MatchUnit(matcher, landed.imported, landed.imported))
    pairs = landed.rows("select feature_a, feature_b, score from matches")
    assert len(pairs) > 50
    assert all(pair["feature_a"] == pair["feature_b"] and pair["score"] > 0.999 for pair in pairs)
