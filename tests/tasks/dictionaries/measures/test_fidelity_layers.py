"""CE and KL where all MLPs are replaced at once, against MLPs that are exchanged by hand in each document."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.activations.language_model import LanguageModel, ModelSpec
from tasks.activations.packing import PackedTokens
from tasks.dictionaries.base import Widths, build_dictionary, dictionary_config
from tasks.dictionaries.measures.fidelity import CLEAN
from tasks.dictionaries.measures.fidelity_layers import Layers, measure_layers, why_not_in_layers

VOCABULARY, D = 50, 16
READS, WRITES = (tuple(f"blocks.{n}.{kind}" for n in (0, 1)) for kind in ("mlp_in", "mlp_out"))
Map = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": D, "intermediate_size": 32, "num_hidden_layers": 2}
    network: Any = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))
    for parameter in network.parameters():
        parameter.data.mul_(8)  # predictions far from uniform, so that replacements matter
    spec = ModelSpec(
        model_id="small",
        source="local",
        revision=None,
        architecture="llama",
        n_layers=2,
        d_model=D,
        vocab_size=VOCABULARY,
        max_context=None,
        n_parameters=0,
        tokenizer_digest="",
        weights_digest="",
        is_causal=True,
        bos_token_id=0,
        eos_token_id=1,
        mask_token_id=None,
    )
    return LanguageModel(spec, network.eval().requires_grad_(False), None, torch.device("cpu"))


def make_tokens(n_sequences: int = 4) -> PackedTokens:
    """Two documents of 6 tokens per sequence, each beginning with a BOS that is not valid."""
    ids = np.random.default_rng(0).integers(2, 49, (n_sequences, 12)).astype(np.int32)
    segment = np.repeat([[0] * 6 + [1] * 6], n_sequences, axis=0).astype(np.int32)
    valid = np.ones_like(ids, dtype=bool)
    valid[:, [0, 6]] = False
    ids[:, [0, 6]] = 0
    return PackedTokens(ids, segment, segment, segment, segment, valid, n_train=0)


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


def test_every_layer_reads_what_the_replaced_layers_below_wrote(model: LanguageModel) -> None:
    tokens, clt = make_tokens(), transcoder()
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
    model: LanguageModel,
) -> None:
    mlps = [copy.deepcopy(layer.mlp) for layer in model.model.model.layers]  # without the hooks
    asked: list[Tensor] = []

    def themselves(x_ND: Tensor) -> Tensor:
        asked.append(x_ND[:, D:])
        return torch.cat([mlp(x) for mlp, x in zip(mlps, torch.chunk(x_ND, 2, dim=1), strict=True)], dim=1)

    mean_D = torch.linspace(2, 3, 2 * D)
    layers = Layers(READS, WRITES, Widths((D, D), (D, D)), mean_D, torch.zeros(2 * D))
    measured = measure_layers(model, make_tokens(), np.arange(2), layers, {"themselves": themselves})
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
