"""CE and KL of crosscoders, one hookpoint at a time, against a plain recomputation of each document."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.widths import Widths
from tasks.measures.controls import fit_controls
from tasks.measures.fidelity_hookpoints import Spot, measure_hookpoint
from tasks.measures.fidelity_rows import fidelity_rows

D = 16
MEANS = torch.linspace(-1, 1, D), torch.linspace(2, 0, D)


def run(model: LanguageModel, ids: Tensor, block: int, put: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values after a block at all tokens but the first, and log-probabilities; ``put`` replaces them."""
    seen: list[Tensor] = []

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        seen.append(value[0, 1:])
        replaced = value if put is None else torch.cat([value[:, :1], put[None]], dim=1)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    handle = model.model.model.layers[block].register_forward_hook(hook)
    logits = model.model(input_ids=ids[None]).logits[0]
    handle.remove()
    return seen[0], logits.log_softmax(dim=-1)[1:5]


@pytest.mark.parametrize("two_models", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_one_hookpoint_is_replaced_by_what_is_made_of_all(
    number: int,
    two_models: bool,
    small_llama: Callable[[int], LanguageModel],
    two_documents: PackedTokens,
) -> None:
    """Two models at one block, or two blocks of one model: the later one is read though the first is put."""
    first = small_llama(0)
    models, blocks = (first, small_llama(1) if two_models else first), (0, 0 if two_models else 1)
    spots = [Spot(model, f"blocks.{block}.resid_post") for model, block in zip(models, blocks, strict=True)]
    mixing = torch.randn(2 * D, 2 * D, generator=torch.Generator().manual_seed(3)) / 4
    rows = np.array([0, 3])
    measured = measure_hookpoint(spots, number, two_documents, rows, MEANS, {"mixed": lambda x: x @ mixing})
    n, ce, kl = 0, {"mixed": 0.0, "mean_ablation": 0.0}, {"mixed": 0.0, "mean_ablation": 0.0}
    for row in rows:
        for part in (slice(0, 6), slice(6, 12)):
            ids = torch.from_numpy(two_documents.token_ids[row, part].astype(np.int64))
            read = [run(model, ids, block)[0] for model, block in zip(models, blocks, strict=True)]
            output = (torch.cat(read, dim=1) @ mixing)[:, number * D : (number + 1) * D]
            clean = run(models[number], ids, blocks[number])[1]
            n += 4
            for name, put in {"mixed": output, "mean_ablation": MEANS[number].expand(5, D)}.items():
                log_probs = run(models[number], ids, blocks[number], put)[1]
                ce[name] -= float(log_probs.gather(1, ids[2:, None]).sum())
                kl[name] += float((clean.exp() * (clean - log_probs)).sum())
    assert measured.n == n == 16
    for name in ce:
        assert measured.ce(name) == pytest.approx(ce[name] / n, rel=1e-4), name
        assert measured.kl(name) == pytest.approx(kl[name] / n, rel=1e-3), name
    assert measured.kl("mixed") > 0.01


class Reader:
    """What fidelity asks of an activation set."""

    def __init__(self, model_id: str, tokens: PackedTokens) -> None:
        self.meta, self.hookpoint = {"model_id": model_id}, "blocks.0.resid_post"
        self.d_in, self.tokens, self.context_length = D, tokens, 12

    def sequence_rows(self, split: str) -> Any:
        return np.arange(4)


def test_rows_of_a_crosscoder_name_their_hookpoint(
    small_llama: Callable[[int], LanguageModel], two_documents: PackedTokens
) -> None:
    activations = HookpointActivations([Reader("small-0", two_documents), Reader("small-1", two_documents)])
    fields = {"architecture": "crosscoder", "l1_coefficient": 1.0, "d_sae": 12, "n_tokens": 1}
    places = {"models": ["small-0", "small-1"], "reads": ["blocks.0.resid_post"]}
    dictionary = build_dictionary(dictionary_config({**fields, **places}), Widths((D, D), (D, D)))
    x_ND = torch.randn(200, 2 * D, generator=torch.Generator().manual_seed(0))
    controls = fit_controls(x_ND, x_ND, 2, 12, 0, reconstructs=True)
    both = [small_llama(0), small_llama(1)]
    config = EvaluationConfig(fidelity_sequences=2)
    rows = fidelity_rows(dictionary.requires_grad_(False), controls, activations, both, config)
    found = {(row["metric"], row["variant"]): row for row in rows}
    assert found["ce_recovered", "mean_ablation"]["value"] is None
    assert "one is replaced at a time" in found["kl", ""]["note"]
    for model in ("small-0", "small-1"):
        at = f"{model}/blocks.0.resid_post"
        assert found["delta_ce", at]["value"] is not None
        assert "pca" in found["kl", at]["control"]
        ces = [found["ce", f"{name} at {at}"]["value"] for name in ("clean", "dictionary", "mean_ablation")]
        recovered = found["ce_recovered", f"mean_ablation at {at}"]
        if ces[2] > ces[0]:
            assert recovered["value"] == pytest.approx((ces[2] - ces[1]) / (ces[2] - ces[0]))
        else:
            assert "no damage" in recovered["note"]
    alone = fidelity_rows(dictionary, controls, activations, both[:1], config)
    assert {row["note"] for row in alone} == {"no language model was given"}
