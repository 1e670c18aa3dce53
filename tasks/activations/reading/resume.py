"""Forward passes that begin at a hookpoint: the blocks before it return what they returned earlier.

Passes that differ only from a hookpoint on repeat everything before it. `Prefix` keeps the output of the last
block before the hookpoint and leaves these blocks out of later passes on the same inputs. The result is equal
to the bit, because what follows reads the same tensor.

Shapes: B sequences, T context, D width of the stream.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from tasks.activations.hookpoint import Hookpoint
from tasks.activations.models.hookpoints import layout_of
from tasks.activations.models.language_model import LanguageModel


class Prefix:
    """The blocks of a model that run before a value is known at a hookpoint.

    There are none for a hookpoint that is named by its module, or in the first block. Then nothing is kept,
    and a pass runs as a whole, as it does where blocks return more than the stream. In the models of the
    table, a block hands the stream to the next one and nothing else that later blocks read.
    """

    def __init__(self, language_model: LanguageModel, hookpoint: str) -> None:
        self._blocks = _blocks_before(language_model.model, Hookpoint.parse(hookpoint))

    @contextmanager
    def kept(self) -> Iterator[list[Tensor]]:
        """Within the context a forward pass appends the stream after the blocks, (B, T, D), to the list."""
        stream: list[Tensor] = []
        if not self._blocks:
            yield stream
            return

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                stream.append(output.detach().clone())  # later layers may work in place

        handle = self._blocks[-1].register_forward_hook(keep)
        try:
            yield stream
        finally:
            handle.remove()

    @contextmanager
    def skipped(self, stream_BTD: Tensor | None) -> Iterator[None]:
        """Within the context a forward pass on the same inputs begins with this stream; None: it is whole."""
        with ExitStack() as stack:
            if stream_BTD is not None:
                for block in self._blocks:
                    stack.enter_context(_returning(block, stream_BTD))
            yield


def _blocks_before(model: Any, hookpoint: Hookpoint) -> list[nn.Module]:
    layout = layout_of(model.config)
    if hookpoint.layer is None or layout is None:
        return []
    n_before = hookpoint.layer + (hookpoint.name == "resid_post")
    path = f"{model.base_model_prefix}.{layout.blocks}"
    return [model.get_submodule(f"{path}.{number}") for number in range(n_before)]


@contextmanager
def _returning(block: nn.Module, stream_BTD: Tensor) -> Iterator[None]:
    """Let a block return a copy of the stream (later layers may work in place); its hooks still run."""
    block.forward = lambda *_args, **_kwargs: stream_BTD.clone()
    try:
        yield
    finally:
        del block.forward  # the method of the class is found again
