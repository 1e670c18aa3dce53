"""What every architecture of the registry has to satisfy; a new one is tested without an edit here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from catalog.schemas import TABLES
from tasks.dictionaries.base import (
    ARCHITECTURES,
    AnyDictionaryConfig,
    Dictionary,
    build_dictionary,
    dictionary_config,
)
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.metrics import ReconstructionSums
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.training.trainer import TrainedDictionary, train

NAMES = tuple(name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "steps")

EXACT = [
    name
    for name in NAMES
    if ARCHITECTURES[name].gradient.exact_decoder_gradient and ARCHITECTURES[name].gradient.learns_decoder
]


def make_config(name: str, **changes: Any) -> DictionaryConfig:
    example = ARCHITECTURES[name].Config.example
    fields = {"architecture": name, "d_sae": 48, "n_tokens": 150_000, "batch_tokens": 256, "lr": 4e-3}
    return dictionary_config({**fields, **example, **changes})


def make_state(dictionary: Dictionary, **changes: Any) -> TrainingState:
    fields: dict[str, Any] = {
        "n_steps": 10,
        "dead_after_tokens": 100,
        "total_variance": 2.0,
        "mean_norm": 4.0,
        "target_norm": 4.0,
        "tokens_since_fired": torch.zeros(dictionary.d_sae, dtype=torch.int64),
        "generator": torch.Generator(),
        "step": 9,
    }
    return TrainingState(**{**fields, **changes})


@pytest.fixture(scope="module")
def trained(planted_for: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedDictionary]:
    scratch = tmp_path_factory.mktemp("scratch")
    return {
        name: train(
            make_config(name), planted_for(name).activations, scratch / name, device="cpu", n_threads=1
        )
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_config_survives_a_round_trip_through_a_pipeline_field(name: str) -> None:
    config = make_config(name)
    adapter = TypeAdapter(AnyDictionaryConfig)
    again = adapter.validate_python(adapter.dump_python(config, mode="json"))
    assert again == config
    assert type(again) is type(config)
    assert again.name().startswith(f"{name}-w48-")


@pytest.mark.parametrize("name", NAMES)
def test_sparsity_has_no_default(name: str) -> None:
    example = ARCHITECTURES[name].Config.example
    hookpoints = {field: value for field, value in example.items() if field in ("reads", "writes")}
    with pytest.raises(ValidationError):
        dictionary_config({"architecture": name, "d_sae": 48, "n_tokens": 1000, **hookpoints})


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_agreement_of_dense_and_sparse_codes(name: str, planted_for: Any, trained: Any) -> None:
    dictionary = trained[name].dictionary
    x_ND, y_NE = planted_for(name).valid("eval", 200)
    codes_NL = dictionary.encode(x_ND)
    values_NK, indices_NK = dictionary.encode_sparse(x_ND)
    assert codes_NL.shape == (200, 48)
    assert codes_NL.min() >= 0
    assert dictionary(x_ND).shape == y_NE.shape
    assert torch.equal(torch.zeros_like(codes_NL).scatter_add(1, indices_NK, values_NK), codes_NL + 0.0)
    assert (values_NK.diff(dim=1) <= 0).all(), "largest first"
    torch.testing.assert_close(dictionary(x_ND), dictionary.decode_sparse(values_NK, indices_NK, x_ND))
    assert torch.equal(dictionary.encode(x_ND[3:4]) > 0, codes_NL[3:4] > 0), "a token is encoded by itself"


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_fvu_and_finds_the_planted_directions(
    name: str, planted_for: Any, trained: Any
) -> None:
    result, sums = trained[name], ReconstructionSums()
    x_ND, y_NE = planted_for(name).valid("eval")
    sums.add(y_NE, result.dictionary(x_ND))
    fvu = [row["value"] for row in result.log.to_pylist() if row["metric"] == "fvu"]
    learns_decoder = result.dictionary.gradient.learns_decoder
    assert sums.values()[("fvu", "")] < (0.5 if learns_decoder else 0.9) * fvu[0]
    if not learns_decoder:
        fresh = build_dictionary(result.dictionary.config, result.dictionary.widths)
        assert torch.equal(result.dictionary.W_dec, fresh.W_dec)
        return
    if getattr(result.dictionary, "has_skip", False):
        return  # a linear path takes over part of what latents would say: see test_transcoders.py
    directions = torch.from_numpy(planted_for(name).directions).float()
    mmcs = (directions @ result.dictionary.W_dec.T).amax(dim=1).mean()
    assert mmcs >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_dictionary_is_the_same(
    name: str, planted_for: Any, trained: Any, tmp_path: Path
) -> None:
    dictionary = trained[name].dictionary
    save_dictionary(dictionary, tmp_path)
    again = load_dictionary(tmp_path)
    x_ND, _ = planted_for(name).valid("eval", 300)
    assert torch.equal(again.encode(x_ND), dictionary.encode(x_ND))
    assert torch.equal(again(x_ND), dictionary(x_ND))
    assert again.config == dictionary.config
    assert again.feature_columns() == dictionary.feature_columns()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.01, 7.5])
def test_folding_the_scale_changes_units_alone(
    name: str, scale: float, planted_for: Any, trained: Any
) -> None:
    """Hookpoints that are folded one by one have scales of their own."""
    dictionary, widths = trained[name].dictionary, trained[name].dictionary.widths
    x_ND = planted_for(name).valid("eval", 300)[0].double()
    scaled = build_dictionary(dictionary.config, widths).double()
    scaled.load_state_dict({key: value.double() for key, value in dictionary.state_dict().items()})
    several = len(widths.writes) > 1
    scale_out_E = torch.cat(
        [torch.full((w,), scale * (1 + 2 * several * n)) for n, w in enumerate(widths.writes)]
    ).double()
    scale_in_D = scale_out_E if dictionary.reconstructs_input else scale_out_E.flip(0) * 5
    codes_NL, recon_NE = scaled.encode(x_ND * scale_in_D), scaled(x_ND * scale_in_D)
    factor_L = (scaled.W_dec / scale_out_E).norm(dim=1) / scaled.W_dec.norm(dim=1)
    scaled.fold_scale(scale_in_D, scale_out_E)
    torch.testing.assert_close(scaled.encode(x_ND), codes_NL * factor_L)
    torch.testing.assert_close(scaled(x_ND), recon_NE / scale_out_E)
    torch.testing.assert_close(scaled.W_dec.norm(dim=1), torch.ones(48).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if ARCHITECTURES[name].gradient.learns_decoder])
def test_decoder_rows_keep_unit_norm_and_their_gradient_is_tangent(name: str, planted_for: Any) -> None:
    planted = planted_for(name)
    dictionary = build_dictionary(make_config(name), planted.activations.widths)
    state = make_state(dictionary)
    dictionary.before_training(state)
    dictionary.training_loss(*planted.valid("train", 256), state).loss.backward()
    dictionary.project_decoder_gradient()
    assert dictionary.W_dec.grad is not None
    assert dictionary.W_dec.grad.norm() > 0
    along = (dictionary.W_dec.grad * dictionary.W_dec).sum(dim=1)
    assert along.abs().max() < 1e-5 * dictionary.W_dec.grad.norm()


@pytest.mark.parametrize("name", EXACT)
def test_gradient_of_the_decoder_matches_finite_differences(name: str, planted_for: Any) -> None:
    """The decoder is where every loss is smooth: no selection, no threshold."""
    planted = planted_for(name)
    dictionary = build_dictionary(make_config(name), planted.activations.widths).double()
    state = make_state(dictionary)
    dictionary.before_training(state)
    x_ND, y_NE = (values.double() for values in planted.valid("train", 64))
    dictionary.training_loss(x_ND, y_NE, state).loss.backward()
    step = torch.randn(48, dictionary.d_out, generator=torch.Generator().manual_seed(0)).double()
    assert dictionary.W_dec.grad is not None
    expected = float((dictionary.W_dec.grad * step).sum())
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            dictionary.W_dec.add_(sign * 1e-5 * step)
            losses.append(float(dictionary.training_loss(x_ND, y_NE, state).loss))
            dictionary.W_dec.sub_(sign * 1e-5 * step)
    assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(expected, rel=1e-5)


class Louder:
    """An activation set times 64."""

    def __init__(self, quiet: Any) -> None:
        self.d_in, self.context_length, self.tokens = quiet.d_in, quiet.context_length, quiet.tokens
        self.sequence_rows, self._read = quiet.sequence_rows, quiet.read

    def read(self, rows: Any) -> Any:
        return self._read(rows).astype("float32") * 64


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_any_scale_train_alike(name: str, planted_for: Any, tmp_path: Path) -> None:
    activations = planted_for(name).activations
    writes = None if activations.writes is None else [Louder(reader) for reader in activations.writes]
    louder = HookpointActivations([Louder(reader) for reader in activations.reads], writes)
    config = make_config(name, n_tokens=5_000)
    quiet = train(config, activations, tmp_path / "quiet", device="cpu").dictionary
    loud = train(config, louder, tmp_path / "loud", device="cpu").dictionary
    torch.testing.assert_close(loud.W_dec, quiet.W_dec, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(loud.b_dec, quiet.b_dec * 64, atol=1e-2, rtol=1e-3)


def test_sizes_that_cannot_work_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="k = 50 exceeds its 48 latents"):
        build_dictionary(make_config("topk", k=50), 16)
    with pytest.raises(ValidationError, match="exactly one of expansion_factor and d_sae"):
        make_config("topk", expansion_factor=8)
    with pytest.raises(ValidationError, match="exactly one of target_l0, l0_coefficient and tanh"):
        make_config("jumprelu", l0_coefficient=1.0)
    with pytest.raises(ValueError, match="unknown architecture 'tpok'; known: batch_topk, "):
        dictionary_config({"architecture": "tpok"})
    with pytest.raises(ValueError, match="name the architecture in 'architecture'"):
        dictionary_config({"k": 3})


def test_names_say_what_matters() -> None:
    assert make_config("topk", d_sae=None, expansion_factor=8, k=32).name() == "topk-x8-k32-s0"
    assert make_config("relu_l1", l1_coefficient=0.1, seed=3).name() == "relu_l1-w48-l0.1-s3"
    assert make_config("jumprelu", target_l0=20).name() == "jumprelu-w48-t20-s0"


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_what_a_unit_is_and_where_it_comes_from_are_words_of_the_catalogue(name: str) -> None:
    columns = TABLES["dictionaries"]
    assert ARCHITECTURES[name].unit_type in columns.column("unit_type").values
    assert ARCHITECTURES[name].origin in columns.column("origin").values
