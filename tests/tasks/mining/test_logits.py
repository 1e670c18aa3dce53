"""Direct logit effects against the plain product."""

import pytest
import torch

from tasks.mining import logits
from tasks.mining.logits import Unembedding, logit_effects


@pytest.mark.parametrize("cells", [32_000_000, 60])
def test_tokens_at_both_ends(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(logits, "_CELLS_AT_ONCE", cells)
    generator = torch.Generator().manual_seed(0)
    w_dec, w_u = torch.randn(9, 6, generator=generator), torch.randn(6, 25, generator=generator)
    gain = torch.rand(6, generator=generator) + 0.5
    found = logit_effects(w_dec, Unembedding(w_u, gain, [str(i) for i in range(25)]), 4)
    expected = (w_dec * gain) @ (w_u - w_u.mean(dim=1, keepdim=True))
    order = expected.argsort(dim=1, descending=True)
    assert found.top_ids.tolist() == order[:, :4].tolist()
    assert found.bottom_ids.tolist() == order.flip(1)[:, :4].tolist()
    assert torch.allclose(torch.from_numpy(found.top_logits), expected.gather(1, order[:, :4]), atol=1e-5)
    assert torch.allclose(
        torch.from_numpy(found.bottom_logits), expected.gather(1, order.flip(1)[:, :4]), atol=1e-5
    )


def test_what_raises_all_tokens_alike_raises_none() -> None:
    """A constant along the vocabulary changes no probability."""
    w_u = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    shifted = w_u + torch.tensor([[5.0], [-3.0], [0.0], [100.0]])
    one, other = (logit_effects(torch.eye(4), Unembedding(w, None, ["t"] * 30), 3) for w in (w_u, shifted))
    assert one.top_ids.tolist() == other.top_ids.tolist()
    assert one.top_logits == pytest.approx(other.top_logits, abs=1e-4)


def test_rows_that_only_pad_the_vocabulary_are_never_shown() -> None:
    w_u = torch.tensor([[0.0, 1.0, 2.0, 50.0]])
    found = logit_effects(torch.ones(1, 1), Unembedding(w_u, None, ["a", "b", "c"]), 2)
    assert found.top_ids.tolist() == [[2, 1]]
