"""CE and KL where all MLPs are replaced at once, against MLPs that are exchanged by hand in each document."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.widths import Widths
from tasks.measures.fidelity import CLEAN
from tasks.measures.fidelity_layers import Layers, measure_layers, why_not_in_layers

D = 16
READS, WRITES = (tuple(f"blocks.{n}.{kind}" for n in (0, 1)) for kind in ("mlp_in", "mlp_out"))
Map = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def model(small_llama: Callable[[int], LanguageModel]) -> LanguageModel:
    return small_llama(0)


def transcoder() -> Any:
    """A cross-layer transcoder of random weights, strong enough to matter."""
    fields = {"architecture": "cross_layer_transcoder", "d_sae": 24, "k": 3, "n_tokens": 1}
    widths = Widths((D, D), (D, D))
    dictionary = build_dictionary(dictionary_config({**fields, "reads": READS, "writes": WRITES}), widths)
    return dictionary.requires_grad_(False)


def by_hand(
    model: LanguageModel, ids: Tensor, first: Map, both: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Log-probabilities of one document with its MLPs exchanged: ``first(x0)``, then ``both(x0, x1)``."""
    layers, seen, kept = model.model.model.layers, [], [layer.mlp for layer in model.model.model.layers]

    class Exchanged(torch.nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, x_1TD: Tensor) -> Tensor:
            own = kept[self.number](x_1TD)
            seen.append(x_1TD[0, 1:])
            own[0, 1:] = first(seen[0]) if self.number == 0 else both(*seen)
            return own

    for number, layer in enumerate(layers):
        layer.mlp = Exchanged(number)
    log_probs = model.model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
    for layer, mlp in zip(layers, kept, strict=True):
        layer.mlp = mlp
    return log_probs


def test_every_layer_reads_what_the_replaced_layers_below_wrote(
    model: LanguageModel, two_documents: PackedTokens
) -> None:
    tokens, clt = two_documents, transcoder()
    mean_E, rows = torch.linspace(-1, 1, 2 * D), np.array([0, 2, 3])
    layers = Layers(READS, WRITES, clt.widths, torch.zeros(2 * D), mean_E)
    measured = measure_layers(model, tokens, rows, layers, {"clt": clt})
    empty = torch.zeros(5, D)
    ways: dict[str, tuple[Map, Callable[[Tensor, Tensor], Tensor]]] = {
        "clt": (
            lambda x0: clt(torch.cat([x0, empty], dim=1))[:, :D],
            lambda x0, x1: clt(torch.cat([x0, x1], dim=1))[:, D:],
        ),
        "zero_ablation": (torch.zeros_like, lambda x0, x1: torch.zeros_like(x1)),
        "mean_ablation": (lambda x0: mean_E[:D].expand(5, D), lambda x0, x1: mean_E[D:].expand(5, D)),
    }
    n, ce, kl = 0, dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for row in rows:
        for part in (slice(0, 6), slice(6, 12)):
            ids = torch.from_numpy(tokens.token_ids[row, part].astype(np.int64))
            clean = model.model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)[1:5]
            n += 4
            for name, (first, both) in ways.items():
                log_probs = by_hand(model, ids, first, both)[1:5]
                ce[name] -= float(log_probs.gather(1, ids[2:, None]).sum())
                kl[name] += float((clean.exp() * (clean - log_probs)).sum())
    assert measured.n == n == 24
    for name in ways:
        assert measured.ce(name) == pytest.approx(ce[name] / n, rel=1e-4), name
        assert measured.kl(name) == pytest.approx(kl[name] / n, rel=1e-3), name
    assert measured.kl("clt") > 0.01
    assert measured.delta_ce(CLEAN) == 0


def test_mlps_in_place_of_themselves_change_nothing_and_unknown_inputs_are_means(
    model: LanguageModel, two_documents: PackedTokens
) -> None:
    mlps = [copy.deepcopy(layer.mlp) for layer in model.model.model.layers]  # without the hooks
    asked: list[Tensor] = []

    def themselves(x_ND: Tensor) -> Tensor:
        asked.append(x_ND[:, D:])
        return torch.cat([mlp(x) for mlp, x in zip(mlps, torch.chunk(x_ND, 2, dim=1), strict=True)], dim=1)

    mean_D = torch.linspace(2, 3, 2 * D)
    layers = Layers(READS, WRITES, Widths((D, D), (D, D)), mean_D, torch.zeros(2 * D))
    measured = measure_layers(model, two_documents, np.arange(2), layers, {"themselves": themselves})
    assert measured.kl("themselves") == pytest.approx(0, abs=1e-9)
    assert measured.ce_recovered("themselves", "zero_ablation") == pytest.approx(1)
    first, second = asked
    assert torch.equal(first, mean_D[D:].expand(20, D))
    assert not torch.equal(second, first)


def test_what_cannot_be_replaced_in_one_pass_has_a_reason(model: LanguageModel) -> None:
    assert why_not_in_layers(model, READS, WRITES) is None
    backwards = str(why_not_in_layers(model, READS, WRITES[::-1]))
    assert backwards == "blocks.1.mlp_in comes after blocks.0.mlp_out, which is made from it"
    middle = ("blocks.0.resid_mid", "blocks.1.resid_mid")
    assert "can be read but not replaced" in str(why_not_in_layers(model, READS, middle))
