"""Several activation sets as one: the same tokens, side by side, and the name of the place."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.config import name_of_hookpoints
from tasks.dictionaries.hookpoint_activations import HookpointActivations


class SetInMemory:
    """Three sequences of four tokens; the value of an activation says where it comes from."""

    context_length = 4

    def __init__(self, d_in: int, value: float, model_id: str = "m", first_token: int = 0) -> None:
        ids = np.arange(12).reshape(3, 4) + first_token
        zeros = np.zeros((3, 4), np.int32)
        self.d_in, self.value, self.meta, self.hookpoint = d_in, value, {"model_id": model_id}, f"h{value:g}"
        self.tokens = SimpleNamespace(
            token_ids=ids, segment=zeros, document_index=zeros, valid=np.ones((3, 4), bool)
        )

    def sequence_rows(self, split: str) -> Any:
        return np.array([0, 1]) if split == "train" else np.array([2])

    def read(self, rows: Any) -> Any:
        return np.full((len(rows), 4, self.d_in), self.value, np.float32)


def test_hookpoints_lie_side_by_side_and_come_apart_again() -> None:
    activations = HookpointActivations([SetInMemory(2, 1), SetInMemory(3, 2)], [SetInMemory(1, 3)])
    assert (activations.widths.reads, activations.widths.writes, activations.d_in) == ((2, 3), (1,), 6)
    values = torch.from_numpy(activations.read(np.array([1]))).flatten(0, 1)
    x_ND, y_NE = activations.split(values)
    assert x_ND[0].tolist() == [1, 1, 2, 2, 2]
    assert y_NE[0].tolist() == [3]
    inputs = activations.inputs
    assert (inputs.d_in, inputs.n_sequences, inputs.hookpoint) == (5, 3, "h1 and h2")
    ((rows, x_STD, valid),) = inputs.batches([2, 0], 8)
    assert (rows.tolist(), x_STD.shape, valid.shape) == ([2, 0], (2, 4, 5), (2, 4))


def test_one_set_is_read_as_it_is() -> None:
    alone = SetInMemory(2, 1)
    assert HookpointActivations([alone]).inputs is alone
    assert HookpointActivations([alone], [SetInMemory(2, 2)]).inputs is alone
    assert HookpointActivations([alone, SetInMemory(2, 2, "n")]).target_names == ("m/h1", "n/h2")


def test_other_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="different tokens"):
        HookpointActivations([SetInMemory(2, 1), SetInMemory(2, 1, "other", first_token=5)])


@pytest.mark.parametrize(
    ("reads", "writes", "name"),
    [
        (["blocks.2.resid_post"], None, "blocks.2.resid_post"),
        (["blocks.1.mlp_in"], ["blocks.1.mlp_out"], "blocks.1.mlp_in-to-mlp_out"),
        (["blocks.0.resid_mid"], ["blocks.1.mlp_out"], "blocks.0.resid_mid-to-blocks.1.mlp_out"),
        (["blocks.0.attn_z", "blocks.1.attn_z"], None, "blocks.0_1.attn_z"),
        (["blocks.0.attn_z", "blocks.1.mlp_in"], None, "blocks.0.attn_z-and-blocks.1.mlp_in"),
        (["module:h.3:input"], None, "module.h.3.input"),
    ],
)
def test_hookpoints_have_names_that_an_alias_may_hold(reads: Any, writes: Any, name: str) -> None:
    assert name_of_hookpoints(reads, writes) == name
