"""Crosscoders: what latents are weighed by, and whether a difference between two models is found."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.widths import Widths
from tasks.measures.latent_scaling import best_factor, latent_scaling
from tasks.training.trainer import train

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "several_hookpoints.json").read_text())
MODELS = {"models": ["a", "b"], "reads": ["blocks.0.resid_post"]}


def crosscoder(first: Any, last: Any, architecture: str = "batch_topk_crosscoder") -> Any:
    """Two hookpoints of width 1 with the decoders given."""
    knob = {"k": 1} if architecture == "batch_topk_crosscoder" else {"l1_coefficient": 1.0}
    fields = {"architecture": architecture, "d_sae": len(first), "n_tokens": 1, **knob, **MODELS}
    dictionary = build_dictionary(dictionary_config(fields), Widths((1, 1), (1, 1))).requires_grad_(False)
    dictionary.W_dec.copy_(torch.tensor([first, last]).T)
    return dictionary


def test_golden_relative_norms() -> None:
    golden = GOLDEN["G17_relative_norm"]
    relative = crosscoder(golden["first"], golden["last"]).relative_norms()
    torch.testing.assert_close(relative, torch.tensor(golden["relative"]))


def test_golden_penalty_and_keys_use_the_sum_of_norms() -> None:
    golden = GOLDEN["G24_crosscoder"]
    f_1L = torch.tensor([golden["f"]])
    keys = crosscoder(golden["first"], golden["last"]).keys(f_1L)
    torch.testing.assert_close(keys, torch.tensor([golden["keys"]]))
    penalised = crosscoder(golden["first"], golden["last"], "crosscoder")
    penalised.W_enc.zero_()
    penalised.b_enc.copy_(f_1L[0])
    state: Any = SimpleNamespace(mean_norm=1.0, target_norm=1.0, ramp=lambda *_, **__: 1.0)
    step = penalised.training_loss(torch.zeros(1, 2), torch.zeros(1, 2), state)
    assert float(step.parts["l1"]) == pytest.approx(golden["l1"])


def test_golden_latent_scaling() -> None:
    golden = GOLDEN["G16_latent_scaling"]
    f, d = torch.tensor(golden["f"]), torch.tensor(golden["d"])
    for place in ("first", "last"):
        products = (f * (torch.tensor(golden[place]) @ d)).sum()
        assert float(best_factor(products, f.square().sum(), d.square().sum())) == pytest.approx(
            golden[f"beta_{place}"]
        )


def trained_on(
    first: Any, last: Any, folder: Path, **changes: Any
) -> tuple[Crosscoding, HookpointActivations]:
    activations = HookpointActivations([first, last])
    fields = {"d_sae": 48, "k": 2, "n_tokens": 150_000, "batch_tokens": 256, "lr": 4e-3, **MODELS}
    config = dictionary_config({"architecture": "batch_topk_crosscoder", **fields, **changes})
    dictionary: Dictionary = train(config, activations, folder, device="cpu", n_threads=1).dictionary
    assert isinstance(dictionary, Crosscoding)
    return dictionary, activations


def alive(dictionary: Dictionary, activations: HookpointActivations, least: float = 0.005) -> torch.Tensor:
    values = torch.from_numpy(activations.read(activations.sequence_rows("eval"))).float().flatten(0, 1)
    return (dictionary.encode(values) > 0).float().mean(dim=0) > least


def test_two_equal_models_share_every_latent(planted: Any, tmp_path: Path) -> None:
    dictionary, activations = trained_on(planted, planted, tmp_path)
    kept = alive(dictionary, activations)
    cosine = dictionary.first_last_cosine()
    assert cosine is not None
    assert kept.sum() >= 32
    torch.testing.assert_close(
        dictionary.relative_norms()[kept], torch.full((int(kept.sum()),), 0.5), atol=0.02, rtol=0
    )
    assert cosine[kept].min() > 0.99


class Changed:
    """The planted model after tuning: louder, and with a direction of its own on a tenth of the tokens."""

    def __init__(self, planted: Any, extra_D: np.ndarray[Any, Any]) -> None:
        self.d_in, self.context_length, self.tokens = planted.d_in, planted.context_length, planted.tokens
        self.sequence_rows, self.extra_D = planted.sequence_rows, extra_D
        random = np.random.default_rng(5)
        on_ST1 = random.random((*planted.values.shape[:2], 1)) < 0.1
        strength_ST1 = random.uniform(1, 2, on_ST1.shape) * on_ST1
        self.values = (3 * (planted.values + strength_ST1 * extra_D)).astype(np.float16)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def test_a_direction_that_only_one_model_has_is_found_as_its_own(planted: Any, tmp_path: Path) -> None:
    extra_D = np.linalg.svd(planted.directions[:8])[2][-1]  # orthogonal to eight of the shared ones
    changed = Changed(planted, extra_D)
    dictionary, activations = trained_on(planted, changed, tmp_path, n_tokens=250_000)
    last_LD = dictionary.hookpoint_directions()[-1]
    likeness = torch.nn.functional.cosine_similarity(last_LD, torch.from_numpy(extra_D).float()[None], dim=1)
    likeness[~alive(dictionary, activations)] = 0
    own = int(likeness.argmax())
    scaling = latent_scaling(dictionary, activations)
    relative = dictionary.relative_norms()
    assert likeness[own] > 0.95
    assert relative[own] > 0.9
    assert abs(scaling["error_ratio"][own] or 0) < 0.25
    assert abs(scaling["reconstruction_ratio"][own] or 0) < 0.25
    shared = alive(dictionary, activations) & (relative < 0.7)
    assert shared.sum() >= 30, "three times louder activations do not make a latent the louder model's own"
    assert (relative[shared] - 0.5).abs().median() < 0.05


def test_latent_scaling_equals_a_plain_regression(planted: Any) -> None:
    fields = {"architecture": "crosscoder", "d_sae": 12, "l1_coefficient": 1.0, "n_tokens": 1, **MODELS}
    activations = HookpointActivations([planted, Changed(planted, planted.directions[0])])
    dictionary: Any = build_dictionary(dictionary_config(fields), activations.widths).requires_grad_(False)
    dictionary.site_scales.copy_(torch.tensor([2.0, 0.5]))
    dictionary.b_enc[3] = -1e6
    columns = latent_scaling(dictionary, activations)
    rows = activations.sequence_rows("eval")
    x_ND = torch.from_numpy(activations.read(rows)[planted.tokens.valid[rows]]).float()
    f_NL, recon_ND = dictionary.encode(x_ND), dictionary(x_ND)
    f_NL, recon_ND, x_ND = f_NL.double(), recon_ND.double(), x_ND.double()
    for j in (0, 7):
        betas: dict[str, list[float]] = {"error_ratio": [], "reconstruction_ratio": []}
        d = 0.5 * dictionary.W_dec[j, 16:]
        for place, scale in ((slice(0, 16), 2.0), (slice(16, 32), 0.5)):
            own_ND = f_NL[:, j : j + 1] * dictionary.W_dec[j, place]
            targets = {
                "error_ratio": (x_ND - recon_ND)[:, place] + own_ND,
                "reconstruction_ratio": recon_ND[:, place],
            }
            for name, target_ND in targets.items():
                design = (f_NL[:, j : j + 1] * d).flatten()
                betas[name].append(float(design @ (scale * target_ND).flatten() / (design @ design)))
        for name, (first, last) in betas.items():
            expected = None if last <= 0 else pytest.approx(first / last, rel=1e-4)
            assert columns[name][j] == expected
    assert columns["error_ratio"][3] is None, "a latent that never fires"
