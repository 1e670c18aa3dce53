"""Conventions folded into weights: the same codes and outputs, or those of the other units."""

from pathlib import Path

import pytest
import torch

from catalog.errors import UserError
from tasks.foreign.assembly import assemble
from tasks.foreign.format import read_foreign
from tasks.foreign.reading import ReadingConfig, first_reading, fold_norms
from tasks.foreign.record import Foreign

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"


def read(case: str) -> Foreign:
    return read_foreign(case.split("/")[0], GOLDEN / case)


def inputs() -> torch.Tensor:
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(4)) * 3 + 1


def test_scale_is_folded_without_changing_codes() -> None:
    foreign, x = read("saelens/jumprelu"), inputs()
    plain, scaled = assemble(foreign), assemble(foreign.with_(scale=2.0))
    torch.testing.assert_close(scaled.encode(x), plain.encode(2 * x))
    torch.testing.assert_close(scaled(x), plain(2 * x) / 2)


def test_folding_norms_is_the_golden_one() -> None:
    """One latent with W_enc [1, 2], b_enc 0.25, threshold 0.5 and direction [2, 0]."""
    foreign = Foreign(
        source="file",
        activation="jumprelu",
        W_enc=torch.tensor([[1.0], [2.0]]),
        W_dec=torch.tensor([[2.0, 0.0]]),
        b_enc=torch.tensor([0.25]),
        b_dec=torch.zeros(2),
        threshold=torch.tensor([0.5]),
    )
    folded = fold_norms(foreign)
    assert folded.W_enc.flatten().tolist() == [2.0, 4.0]
    assert (folded.b_enc.tolist(), folded.W_dec.tolist()) == ([0.5], [[1.0, 0.0]])
    assert folded.threshold is not None
    assert folded.threshold.tolist() == [1.0]


@pytest.mark.parametrize("case", ["saelens/jumprelu", "saelens/gated-uncentred", "saelens/old-standard"])
def test_folding_norms_keeps_the_output(case: str) -> None:
    foreign, x = read(case), inputs()
    plain, folded = assemble(foreign), assemble(first_reading(foreign, ReadingConfig(decoder="folded")))
    torch.testing.assert_close(folded(x), plain(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(folded.d_sae))
    norms = plain.W_dec.norm(dim=1)
    torch.testing.assert_close(folded.encode(x), plain.encode(x) * norms, rtol=1e-5, atol=1e-5)


def test_folding_norms_of_topk_is_refused() -> None:
    with pytest.raises(UserError, match="would change which latents"):
        first_reading(read("saelens/topk"), ReadingConfig(decoder="folded"))


def test_settings_of_the_user_replace_what_the_file_says() -> None:
    case = GOLDEN / "saelens" / "old-standard"
    reading = ReadingConfig(activation="topk", k=4)
    acts = assemble(first_reading(read_foreign("saelens", case, reading), reading)).encode(inputs())
    assert int((acts > 0).sum(dim=1).max()) <= 4
    with pytest.raises(UserError, match="needs the number of latents: add --set k="):
        read_foreign("saelens", case, ReadingConfig(activation="topk"))
